"""The model in force, and how the next one takes its place while work goes on.

A job takes hold of tools and model when it begins and keeps them to its end. The next model is loaded beside; once it
is there, jobs that begin from then on have it, and their ids name it. A job that was queued for the model before is
done by the one in force when it begins, as after a restart: the newest report and the newest model are what counts.
The old model is let go of with the last job that holds it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from plugin.batching import SharedModel
from plugin.errors import SightlineError
from plugin.flow import Tools
from plugin.ports import Grounder, Priority

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Tools, and the model that their jobs share."""

    tools: Tools
    model: SharedModel


class ModelInForce:
    """Which tools a job has that begins now. Safe to use from several threads.

    Parameters
    ----------
    now : what is in force at first.
    load : the next one, as the settings say by now. Raises SightlineError.
    """

    def __init__(self, now: Fitted, load: Callable[[], Fitted]) -> None:
        self._now, self._load = now, load
        self._one_at_a_time = threading.Lock()

    def tools(self, priority: Priority) -> Tools:
        """For a job of that urgency."""
        now = self._now
        return replace(now.tools, grounder=now.model.at(priority))

    def grounder(self) -> Grounder:
        """For a person who waits."""
        return self._now.model.at(Priority.PERSON)

    def makers(self) -> tuple[str, ...]:
        """What makes results from now on; part of the ids of jobs."""
        return self._now.tools.makers

    def probe(self) -> None:
        """Whether the model can be asked.

        Raises
        ------
        UnavailableError
            If it hung or ended too often.
        """
        self._now.model.probe()

    def renew(self) -> bool:
        """Put the next model in force; one that cannot be loaded changes nothing. Whether it was."""
        with self._one_at_a_time:
            try:
                self._now = self._load()
            except SightlineError as error:
                _log.error("the model stays as it was: %s", error)
                return False
            card = self._now.model.card
            _log.warning("the model is now %s %s, weights %s", card.name, card.version, card.weights_sha256[:12])
            return True

    def renew_aside(self) -> None:
        """:meth:`renew` in a thread of its own: what a signal asks for."""
        threading.Thread(target=self.renew, name="sightline-renewal", daemon=True).start()
