"""Keep PyTorch out of the memory of the report reader."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoTorch(MetaPathFinder):
    """Tells one thread that PyTorch is not installed; other threads import it as ever."""

    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 (the finder's protocol)
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Refuse ``torch`` and its parts, leave every other module to the finders that follow."""
        if fullname.partition(".")[0] == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("PyTorch is not needed here", name=fullname)
        return None


@contextmanager
def without_torch() -> Iterator[None]:
    """Import what would import PyTorch if it could: thinc tries to, which costs 190 MB and seconds for nothing.

    A PyTorch that is already loaded stays usable; one that is not can be imported afterwards.
    """
    finder = _NoTorch(threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
