"""A DICOMweb archive that is not Orthanc: dicomweb-client's file client behind HTTP, with the habits of other servers.

Nothing of Sightline's own reads or writes here, so what passes between the two is DICOMweb and not an agreement.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import requests
import uvicorn
from dicomweb_client import DICOMfileClient
from pydicom import Dataset, dcmread, dcmwrite
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

# User and password of the one client of the token endpoint, in the form of RFC 6749 2.3.1.
CLIENT = "sightline:client+s%C3%A9cret"


@dataclass
class Habits:
    """How this archive speaks and whom it lets in; each may be changed while it runs.

    Parameters
    ----------
    content_type : of an answer with parts; ``{boundary}`` stands for the boundary.
    line_end, preamble, part_header, epilogue : of a message with parts.
    bare : one instance comes without a message around it.
    json_type : of metadata and searches.
    page : most results of a search, whatever was asked for.
    ignores_offset : every page of a search is the first.
    shown : a header that every request must show; None lets everyone in.
    token_life_s : what the token endpoint tells; tokens hold until :meth:`Archive.revoke` whatever is told.
    """

    content_type: str = 'multipart/related; type="application/dicom"; boundary={boundary}'
    line_end: bytes = b"\r\n"
    preamble: bytes = b""
    part_header: bytes = b"Content-Type: application/dicom"
    epilogue: bytes = b""
    bare: bool = False
    json_type: str = "application/dicom+json"
    page: int = 1000
    ignores_offset: bool = False
    shown: tuple[str, str] | None = None
    token_life_s: Any = 3600


@dataclass
class Archive:
    """The archive as a test sees it."""

    folder: Path
    habits: Habits = field(default_factory=Habits)
    port: int = 0
    requests: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Status and body instead of an answer, by "METHOD path" as a regular expression."""
    tokens: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    @property
    def token_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    def revoke(self) -> None:
        """No token that was given holds any more."""
        self.habits.shown = ("Authorization", "Bearer of nobody")

    def add(self, *instances: bytes) -> None:
        """Store instances as a modality does."""
        parts = b"".join(b"\r\n--xyz\r\nContent-Type: application/dicom\r\n\r\n" + one for one in instances)
        kind = 'multipart/related; type="application/dicom"; boundary=xyz'
        header = dict([self.habits.shown] if self.habits.shown else [])
        answer = httpx.post(
            f"{self.url}/studies", content=parts + b"\r\n--xyz--", headers={"Content-Type": kind, **header}, timeout=60
        )
        answer.raise_for_status()

    def files(self, study_instance_uid: str) -> tuple[bytes, ...]:
        """The files of a study as they lie in the archive."""
        contents = (path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file())
        return tuple(
            c for c in contents if dcmread(BytesIO(c), force=True).get("StudyInstanceUID") == study_instance_uid
        )


@contextmanager
def run_archive(folder: Path) -> Iterator[Archive]:
    """The archive over *folder* on a free loopback port, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = Archive(folder)
    # The file client keeps to one thread: it is made and used in the thread of the server's event loop alone.
    config = uvicorn.Config(_Face(archive).app(), host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive(), "the archive did not start"
        archive.port = server.servers[0].sockets[0].getsockname()[1]
        yield archive
    finally:
        server.should_exit = True
        thread.join()


class _Face:
    """The HTTP before the file client."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.habits = archive.habits

    @cached_property
    def client(self) -> DICOMfileClient:
        return DICOMfileClient(self.archive.folder.as_uri(), in_memory=True, update_db=True)

    def app(self) -> Starlette:
        study = "/dicom-web/studies/{study}"
        return Starlette(
            routes=[
                Route("/dicom-web/studies", self.guarded(self.search), methods=["GET"]),
                Route("/dicom-web/studies", self.guarded(self.store), methods=["POST"]),
                Route(study, self.guarded(self.store), methods=["POST"]),
                Route(f"{study}/metadata", self.guarded(self.metadata)),
                Route(f"{study}/series/{{series}}/instances/{{instance}}", self.guarded(self.retrieve)),
                Route("/token", self.token, methods=["POST"]),
            ]
        )

    def guarded(self, answer: Callable[[Request, bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self.archive.requests.append(f"{request.method} {request.url.path} {request.headers['host']}")
            shown = self.habits.shown
            if shown is not None and request.headers.get(shown[0]) != shown[1]:
                return Response(status_code=401)
            for asked, (status, body) in self.archive.refusals.items():
                if re.fullmatch(asked, f"{request.method} {request.url.path}"):
                    return Response(body, status, media_type=self.habits.json_type)
            try:
                return answer(request, await request.body())
            except (requests.HTTPError, KeyError):
                return Response("no such study or instance", 404)

        return endpoint

    def told(self, content: Any) -> Response:
        return Response(json.dumps(content), media_type=self.habits.json_type)

    def search(self, request: Request, _: bytes) -> Response:
        """By modality alone: like other servers, this one takes no notice of what it does not know."""
        query = dict(request.query_params)
        limit = min(int(query.get("limit", 1000)), self.habits.page)
        offset = 0 if self.habits.ignores_offset else int(query.get("offset", 0))
        modality = query.get("ModalitiesInStudy")
        found = [
            study
            for study in self.client.search_for_studies()
            if modality is None or modality in study["00080061"]["Value"]
        ]
        page = [study | self.more_of(study) for study in found[offset : offset + limit]]
        return self.told(page) if page else Response(status_code=204)

    def more_of(self, study: dict[str, Any]) -> dict[str, Any]:
        """What PS3.18 table 10.6.3-3 asks for besides, and the file client does not tell."""
        first = self.client.retrieve_study_metadata(study["0020000D"]["Value"][0])[0]
        return {tag: first[tag] for tag in ("00080050", "00081030") if tag in first}

    def metadata(self, request: Request, _: bytes) -> Response:
        found = self.client.retrieve_study_metadata(request.path_params["study"])
        return self.told(found) if found else Response(status_code=404)

    def retrieve(self, request: Request, _: bytes) -> Response:
        place = request.path_params
        buffer = BytesIO()
        dcmwrite(buffer, self.client.retrieve_instance(place["study"], place["series"], place["instance"]))
        return _message(self.habits, buffer.getvalue())

    def store(self, request: Request, body: bytes) -> Response:
        boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
        parts = body.split(b"\r\n--" + boundary)[1:-1]
        datasets = [dcmread(BytesIO(part.partition(b"\r\n\r\n")[2])) for part in parts]
        return self.told(_stored(self.client, datasets).to_json_dict())

    async def token(self, request: Request) -> Response:
        pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        if b"grant_type=client_credentials" not in await request.body() or pair != CLIENT:
            return JSONResponse({"error": "invalid_client"}, 400)
        self.archive.tokens.append(f"token-{len(self.archive.tokens)}")
        self.habits.shown = ("Authorization", f"Bearer {self.archive.tokens[-1]}")
        life = {} if self.habits.token_life_s is None else {"expires_in": self.habits.token_life_s}
        return JSONResponse({"access_token": self.archive.tokens[-1], "token_type": "Bearer", **life})


def _stored(client: DICOMfileClient, datasets: list[Dataset]) -> Dataset:
    """Store what is new; as archives do, one that is there is success and stays as it is."""
    known = {instance["00080018"]["Value"][0] for instance in client.search_for_instances()}
    new = [dataset for dataset in datasets if dataset.SOPInstanceUID not in known]
    return client.store_instances(new) if new else Dataset()


def _message(habits: Habits, instance: bytes) -> Response:
    if habits.bare:
        return Response(instance, media_type="application/dicom")
    end, mark = habits.line_end, b"--b(o)und=ary?"
    head = habits.part_header + end if habits.part_header else b""
    body = habits.preamble + mark + end + head + end + instance + end + mark + b"--" + habits.epilogue
    return Response(body, headers={"Content-Type": habits.content_type.format(boundary='"b(o)und=ary?"')})
