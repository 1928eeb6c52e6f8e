"""Who asks, by whatever the request brings: a program's token, or a bearer token of the site's issuer."""

from __future__ import annotations

from dataclasses import dataclass

from plugin.access.caller import Caller, Proof
from plugin.access.issuer import Issuer
from plugin.access.ports import Credentials, UnknownError
from plugin.access.roles import RoleMap
from plugin.access.secrets import PREFIX, KnownProgram, program_of


@dataclass(frozen=True, slots=True)
class Known:
    """An :class:`plugin.access.ports.Identification`.

    Parameters
    ----------
    programs : with tokens of the site's own file.
    issuer : whose bearer tokens are taken; None: nobody's.
    audiences : for whom those are made out.
    """

    programs: tuple[KnownProgram, ...]
    roles: RoleMap
    issuer: Issuer | None = None
    audiences: tuple[str, ...] = ()

    def __call__(self, credentials: Credentials) -> Caller | None:
        """See the port."""
        if not credentials.bearer:
            return None
        if credentials.bearer.startswith(PREFIX) or self.issuer is None:
            program = program_of(credentials.bearer, self.programs)
            if program is None:
                raise UnknownError("The token is not known here.")
            return program
        claims = self.issuer.claims(credentials.bearer, audiences=self.audiences)
        return self.roles.caller(claims, proof=Proof.TOKEN)
