"""Whether another site is behind a request.

It matters where browsers prove who asks by themselves: by a cookie, or in demo mode by being on this machine. They say
where a request comes from (Sec-Fetch-Site of Fetch Metadata, Origin of RFC 6454), and pages cannot change that. A
request that changes something has to come from our own pages; whatever other sites load without going there is refused
too, so that they cannot tell from its size or time what is here.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from plugin.access.caller import Proof

_READS: Final = ("GET", "HEAD")
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def foreign(headers: Headers, method: str, proof: Proof) -> str:
    """Why the request is refused, "" when it is not.

    Parameters
    ----------
    method : of HTTP; "WS" for a web socket.
    proof : by which the caller is known.
    """
    if proof is Proof.DEMO and any(name in headers for name in _FORWARDED):
        return "A proxy passes this on to a service without a login; set SIGHTLINE_LOGIN_ISSUER."
    if proof not in (Proof.SESSION, Proof.DEMO):
        return ""
    site = headers.get("sec-fetch-site", "")
    if method in _READS:
        gone_to = headers.get("sec-fetch-mode", "navigate") == "navigate"
        return "" if gone_to or site in ("", "same-origin", "none") else "Another site's page asks for this."
    return "" if _ours(headers, site, proof) else "This comes from another site's page, or does not say from where."


def _ours(headers: Headers, site: str, proof: Proof) -> bool:
    origin = headers.get("origin", "")
    if site:
        return site == "same-origin"
    if origin:
        return urlsplit(origin).netloc == headers.get("host", "")
    return proof is Proof.DEMO  # a program: browsers that send neither are long gone
