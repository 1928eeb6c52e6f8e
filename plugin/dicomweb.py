"""DICOMweb as servers really speak it: dicomweb-client, and answers put into the form that it understands.

Servers quote boundaries or not, write LF for CRLF, put text before the first part, leave out the headers of a part,
send a single instance bare, and add parameters to media types. dicomweb-client takes the first form of each; what is
read here is rewritten into that form before it sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.message import Message
from io import BytesIO
from typing import Any, Final, Protocol

import requests
from dicomweb_client import DICOMwebClient

from plugin.dicom.header import refuse_heavy
from plugin.endpoint import Endpoint, session_of
from plugin.errors import InputError, TransientError
from plugin.limits import MAX_VALUES, values_in

DICOM: Final = "application/dicom"
#: Media types of DICOM JSON and XML, and what they are told to dicomweb-client as.
_PLAIN: Final = {
    "application/dicom+json": "application/dicom+json",
    "application/json": "application/dicom+json",
    "text/json": "application/dicom+json",
    "application/dicom+xml": "application/dicom+xml",
    "application/xml": "application/dicom+xml",
    "text/xml": "application/dicom+xml",
}
#: Metadata or a page of a search in JSON; it becomes objects of ten times its size.
MAX_JSON_BYTES: Final = 64 * 1024**2
_BOUNDARY: Final = "sightline-0d7b3a54-8d0e-4b0c-a5c5-0f2f1a1d9f3e"
# A block of header fields (RFC 2046 5.1.1: it may be empty) up to its empty line.
_HEADERS: Final = re.compile(rb"(?:[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*\r?\n")
#: Where a DICOM file says that it is one (PS3.10 7.1).
_DICM: Final = slice(128, 132)
#: Results of one page of a search, and pages at most: an archive that ignores both limit and offset ends a search, too.
PAGE_SIZE: Final = 200
MOST_PAGES: Final = 500


def web_client(endpoint: Endpoint) -> DICOMwebClient:
    """A client of the DICOMweb server at *endpoint*; requests are not repeated, since the job queue does that.

    Raises
    ------
    InputError
        If the address is not one that dicomweb-client takes.
    """
    try:
        client = DICOMwebClient(
            endpoint.url.rstrip("/"),
            session=session_of(endpoint),
            timeout=endpoint.timeout_s,
            callback=plain_answer,
            chunk_size=2**31 - 1,  # a body with its length: not every server takes a chunked one
        )
    except ValueError as error:
        raise InputError(
            "The address of the archive is not an HTTP address; expected http(s)://host:port/path."
        ) from error
    client.set_http_retry_params(retry=False)
    return client


def plain_answer(response: requests.Response, **_: Any) -> requests.Response:
    """*response* in the form that dicomweb-client understands; a hook of requests.

    Raises
    ------
    TransientError
        If the answer is a page for people: a proxy or a portal stands in place of the archive.
    InputError
        If it is a redirect, which is not followed, or would fill the memory when it is parsed.
    """
    if response.is_redirect:
        response.close()
        raise InputError(f"The archive sends us elsewhere ({response.status_code}); set the address where it answers.")
    if not response.ok or not response.content:
        return response
    media_type, parameters = media_type_of(response.headers.get("Content-Type", ""))
    if media_type in _PLAIN:
        if len(response.content) > MAX_JSON_BYTES or values_in(response.content) > MAX_VALUES:
            raise InputError(
                f"The metadata that the archive answers are larger than {MAX_JSON_BYTES // 2**20} MiB or have more than"
                f" {MAX_VALUES:,} values."
            )
        if b"<!DOCTYPE" in response.content:
            raise InputError("The archive answers XML with a document type, whose entities are not expanded.")
        return _with(response, _PLAIN[media_type], response.content)
    if media_type == "multipart/related" or _looks_multipart(media_type, response.content):
        boundary = parameters.get("boundary", "") or _first_boundary(response.content)
        parts = tuple(parts_of(response.content, boundary)) if boundary else (response.content,)
        return _multipart(response, parts)
    if media_type == DICOM or response.content[_DICM] == b"DICM":
        return _multipart(response, (response.content,))
    if response.content.lstrip()[:1] in (b"[", b"{"):
        return _with(response, "application/dicom+json", response.content)
    raise TransientError("The archive answered something that is not DICOMweb; is another server at its address?")


def media_type_of(content_type: str) -> tuple[str, Mapping[str, str]]:
    """The media type in lower case, and its parameters without their quotes (RFC 2045 5.1)."""
    header = Message()
    header["Content-Type"] = content_type
    if not content_type:
        return "", {}
    return header.get_content_type(), {
        str(name).lower(): str(value) for name, value in header.get_params([], unquote=True)[1:]
    }


def parts_of(content: bytes, boundary: str) -> Iterator[bytes]:
    """The bodies of a multipart message (RFC 2046 5.1.1), without what stands before the first and behind the last.

    Lines end as the first delimiter does, with CRLF or LF alone: a CR before an LF may belong to a part.
    """
    marker = b"--" + re.escape(boundary.encode())
    first = re.search(rb"(?:\A|\n)" + marker + rb"[ \t]*(\r?\n)", content)
    if first is None:
        return
    end = first[1]
    delimiter = re.compile(end + marker + rb"(--)?[ \t]*(?:" + end + rb"|\Z)")
    begin = first.end()
    # The end of a delimiter's line may begin the next delimiter: a part without anything in it.
    while found := delimiter.search(content, begin - len(end)):
        yield _body(content[begin : found.start()])
        if found[1]:
            return
        begin = found.end()
    yield _body(content[begin:])


def _body(part: bytes) -> bytes:
    """What follows the headers of *part*; the whole of it when it has none, not even the empty line."""
    headers = _HEADERS.match(part)
    if headers is None or (part[_DICM] == b"DICM" and headers.end() <= 2 and part[headers.end() :][_DICM] != b"DICM"):
        return part
    return part[headers.end() :]


def _looks_multipart(media_type: str, content: bytes) -> bool:
    return media_type in ("", "multipart/mixed", "application/octet-stream") and content.lstrip()[:2] == b"--"


def _first_boundary(content: bytes) -> str:
    line = content.lstrip().partition(b"\n")[0].strip()
    return line[2:].decode("ascii", "replace") if line.startswith(b"--") else ""


def _multipart(response: requests.Response, parts: tuple[bytes, ...]) -> requests.Response:
    for part in parts:
        refuse_heavy(part)  # dicomweb-client reads and inflates without a limit
    body = b"".join(b"--%b\r\nContent-Type: %b\r\n\r\n%b\r\n" % (_BOUNDARY.encode(), DICOM.encode(), p) for p in parts)
    closed = body + b"--%b--" % _BOUNDARY.encode()
    return _with(response, f'multipart/related; type="{DICOM}"; boundary={_BOUNDARY}', closed)


def _with(response: requests.Response, content_type: str, content: bytes) -> requests.Response:
    """*response* with another body."""
    told = requests.Response()
    told.status_code, told.reason, told.url = response.status_code, response.reason, response.url
    told.request, told.history, told.encoding = response.request, response.history, "utf-8"
    told.headers.update(response.headers)
    told.headers["Content-Type"] = content_type
    for name in ("Content-Length", "Content-Encoding", "Transfer-Encoding"):
        told.headers.pop(name, None)
    told.raw = BytesIO(content)
    return told


class StudySearch(Protocol):
    """The part of dicomweb-client's protocol that searches."""

    def search_for_studies(
        self,
        *,
        limit: int | None = None,
        offset: int | None = None,
        fields: list[str] | None = None,
        search_filters: dict[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """DICOM JSON of each study of one page."""


def search_studies(client: StudySearch, filters: Mapping[str, str], fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every study that matches *filters*, asked for page by page until one brings nothing new (PS3.18 8.3.4).

    Servers cap pages as they like, and some ignore limit, offset or both: so neither the length of a page nor a
    repeated page is taken for the end of anything but this search.
    """
    found: dict[str, dict[str, Any]] = {}
    offset = 0
    for _ in range(MOST_PAGES):
        page = client.search_for_studies(
            limit=PAGE_SIZE, offset=offset, fields=list(fields), search_filters=dict(filters)
        )
        new = {uid: study for study in page if (uid := value_of(study, "0020000D")) and uid not in found}
        if not new:
            return list(found.values())
        found |= new
        offset += len(page)
    raise TransientError("The archive's search does not end; ask for less.")


def value_of(instance: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute in DICOM JSON as text; "" when there is none."""
    element = instance.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values and values[0] is not None else ""


def values_of(instance: Mapping[str, Any], tag: str) -> tuple[str, ...]:
    """Every value of an attribute in DICOM JSON as text."""
    element = instance.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return tuple(str(value) for value in values) if isinstance(values, list) else ()
