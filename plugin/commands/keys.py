"""``sightline keys``: keys by which Sightline proves itself to FHIR servers, and tokens by which programs do to it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from plugin.access.caller import Role
from plugin.access.secrets import new_token
from plugin.errors import InputError
from plugin.fhir.keys import KeyKind, make_key


def new(path: Path, *, kind: KeyKind) -> int:
    """Make a private key in the new file *path*."""
    key = make_key(path, kind)
    Console().print(f"{path}: private key for {key.algorithm}, key id {key.key_id}", soft_wrap=True, highlight=False)
    return 0


def token(name: str, *, role: Role) -> int:
    """Print a new token, once, and the line that makes it known to the service.

    Raises
    ------
    InputError
        If the name cannot be one.
    """
    try:
        made, line = new_token(name, role)
    except ValueError as error:
        raise InputError(f"{error}") from None
    console = Console()
    console.print(f"token, for the program alone:               {made}", soft_wrap=True, highlight=False)
    console.print(f"line for the file of SIGHTLINE_SERVICE_TOKENS_FILE:  {line}", soft_wrap=True, highlight=False)
    return 0
