"""Whether a caller may use a route, and what of the data they see there."""

from __future__ import annotations

from dataclasses import dataclass

from plugin.access.caller import EVERYTHING, Caller, Role, Sees
from plugin.access.rules import Rule
from plugin.fhir.scopes import is_of_fhir, lacking


@dataclass(frozen=True, slots=True)
class Refused:
    """*why* is told to the caller: it says nothing of the data."""

    why: str


def decide(rule: Rule, caller: Caller) -> Sees | Refused:
    """What *caller* sees at the route of *rule*."""
    seen = _seen(rule, caller)
    if rule.whole and isinstance(seen, Sees) and seen.patient is not None:
        return Refused("This is about all patients, and you see one.")
    return seen


def _seen(rule: Rule, caller: Caller) -> Sees | Refused:
    """By roles and scopes.

    A caller is who its roles say. Where the issuer granted SMART scopes, they narrow that: the route's FHIR type must
    be among them, and scopes of ``patient/`` alone lead to that patient's compartment, whoever reads.
    """
    roles = caller.roles & rule.roles
    if not roles:
        return Refused("Your roles do not allow this.")
    if not any(map(is_of_fhir, caller.scopes)):
        everybody = roles - {Role.PATIENT}
        return EVERYTHING if everybody else _compartment(caller)
    if _granted("user", rule, caller) or _granted("system", rule, caller):
        # A patient's user/ scopes mean what that user may see, which is their own.
        return EVERYTHING if roles - {Role.PATIENT} else _compartment(caller)
    if _granted("patient", rule, caller):
        return _compartment(caller, works=bool(roles - {Role.PATIENT}))
    return Refused("Your scopes do not allow this.")


def _compartment(caller: Caller, *, works: bool = False) -> Sees | Refused:
    """That of the patient: whoever *works* with reports sees drafts in it, and what stands behind the results."""
    if not caller.patient:
        return Refused("Your token names no patient.")
    return Sees(caller.patient, drafts=works, workings=works)


def _granted(level: str, rule: Rule, caller: Caller) -> bool:
    wanted = [f"{level}/{rule.reads}.rs"] if rule.reads else []
    wanted += [f"{level}/{rule.writes}.u"] if rule.writes else []
    if not wanted:  # nothing of FHIR: any scope of that level will do
        return any(scope.startswith(f"{level}/") for scope in caller.scopes)
    return not lacking(wanted, caller.scopes)
