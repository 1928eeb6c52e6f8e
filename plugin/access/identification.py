"""Who asks, by whatever the request brings: a program's token, a bearer token of the site's issuer, a session."""

from __future__ import annotations

from dataclasses import dataclass

from plugin.access.caller import Caller, Proof
from plugin.access.issuer import Issuer
from plugin.access.ports import Credentials, UnknownError
from plugin.access.roles import RoleMap
from plugin.access.secrets import PREFIX, KnownProgram, program_of
from plugin.access.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Known:
    """An :class:`plugin.access.ports.Identification`.

    Parameters
    ----------
    programs : with tokens of the site's own file.
    issuer : whose bearer tokens are taken; None: nobody's.
    audiences : for whom those are made out.
    sessions : of browsers; None: there are none.
    """

    programs: tuple[KnownProgram, ...]
    roles: RoleMap
    issuer: Issuer | None = None
    audiences: tuple[str, ...] = ()
    sessions: Sessions | None = None

    def __call__(self, credentials: Credentials) -> Caller | None:
        """See the port. A session that has ended is as none."""
        if not credentials.bearer:
            return self.sessions.caller(credentials.session) if self.sessions and credentials.session else None
        if credentials.bearer.startswith(PREFIX) or self.issuer is None:
            program = program_of(credentials.bearer, self.programs)
            if program is None:
                raise UnknownError("The token is not known here.")
            return program
        claims = self.issuer.claims(credentials.bearer, audiences=self.audiences)
        return self.roles.caller(claims, proof=Proof.TOKEN)
