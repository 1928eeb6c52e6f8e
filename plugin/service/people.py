"""Who decides: whoever signed in; where nobody signs in, whom the request names."""

from __future__ import annotations

from plugin.access.caller import Proof
from plugin.access.visit import Visit
from plugin.errors import InputError
from plugin.values import Person


def is_named(visit: Visit) -> bool:
    """Whether the request has to say who decides."""
    return visit.caller.proof is Proof.DEMO


def person_of(visit: Visit, named: str) -> Person:
    """Whoever decides.

    Parameters
    ----------
    named : what the request says of who; it counts only where nobody signs in.

    Raises
    ------
    InputError
        If nobody is named there.
    """
    caller = visit.caller
    if not is_named(visit):
        return Person(caller.user or caller.id, caller.id)
    name = "".join(each for each in " ".join(named.split()) if each.isprintable())
    if not name:
        raise InputError("Say who decides.")
    return Person(name)
