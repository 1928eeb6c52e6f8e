"""The application: routes over the services, behind the guard, with what does the jobs beside them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from plugin import __version__
from plugin.errors import InputError
from plugin.page.release import IMMEDIATELY, Rules
from plugin.ports import Priority
from plugin.service.casting import casting_router
from plugin.service.changes import Changes, changes_router, state_of
from plugin.service.chart import chart_router
from plugin.service.decisions import LeftDecisions, decisions_router
from plugin.service.entrance import Access, Entrance, check_rules
from plugin.service.events import Admission, any_event, events_router
from plugin.service.fhir import FhirService, fhir_router
from plugin.service.guard import Guard, Shield
from plugin.service.health import health_router
from plugin.service.hub import Hub, hub_router
from plugin.service.keys import keys_router
from plugin.service.login import Doors, login_router
from plugin.service.metrics import metrics_router
from plugin.service.pages import Pages, pages_router
from plugin.service.parts import Part, Services
from plugin.service.predict import predict_router
from plugin.service.problems import answer_with_problems
from plugin.service.review import review_router
from plugin.service.studies import studies_router, submission, taking
from plugin.service.viewer import Viewer, serve_files, viewer_router
from plugin.service.watcher import Watcher
from plugin.service.worklist import Counter, counts_of, worklist_router
from plugin.watch import Watch

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# A DICOM file of 64 MiB in base64.
MAX_BODY_BYTES = 88 * 1024 * 1024
# What comes by a web socket are short answers; events come by POST.
MAX_SOCKET_BYTES = 64 * 1024


def create_app(
    services: Services,
    *,
    allowed_hosts: tuple[str, ...] = LOOPBACK,
    max_body_bytes: int = MAX_BODY_BYTES,
    access: Access | None = None,
    shield: Shield | None = None,
    admit: Admission = any_event,
    work: bool = True,
    viewer: Viewer | None = None,
    watch: Watch | None = None,
    public_keys: Callable[[], Mapping[str, Any]] | None = None,
    fhir: FhirService | None = None,
    beside: tuple[Part, ...] = (),
    hook: APIRouter | None = None,
    public_url: str | None = None,
    release: Rules = IMMEDIATELY,
    login: Doors | None = None,
) -> FastAPI:
    """The service over *services*.

    Parameters
    ----------
    allowed_hosts : names that requests may use for the service ("*": any); others are refused, so that a web page
        whose name was pointed at this machine (DNS rebinding) reads nothing.
    max_body_bytes : larger requests are refused.
    access : who is let in; None: demo mode, where everybody is. Whoever starts the service sees to it that then only
        this machine reaches it.
    shield : what answers tell browsers to hold to; None: that nobody frames them.
    admit : whose events are taken.
    work : whether jobs are worked on here.
    viewer : when given, OHIF is served, too, and reads the archive through this service.
    watch : when given, the archive is looked at for new studies.
    public_keys : when given, the JWK Set to publish.
    fhir : when given, multimedia reports are served to FHIR clients.
    beside : what else runs while the service does.
    hook : when given, where a FHIR server tells that reports may have come.
    public_url : how browsers reach the service, for addresses of web sockets; None: as they asked.
    release : when patients see a report; by default as soon as it is final.
    login : when given, people log in with a browser.

    Raises
    ------
    ValueError
        If a route has no rule in :mod:`plugin.access.rules`.
    """
    taken = taking(services, priority=Priority.NEW)
    runners = (services.queue.runner(services.work),) if work else ()
    parts: tuple[Part, ...] = (*_left(services), *runners, *((Watcher(watch, taken),) if watch else ()), *beside)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for part in parts:
            await run_in_threadpool(part.start)
        yield
        for part in reversed(parts):
            await run_in_threadpool(part.stop)

    # No /docs: that page of FastAPI loads its script from another site.
    app = FastAPI(
        title="Sightline",
        version=__version__,
        summary="Finding phrases of a chest X-ray report, and where they are on the image.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    asked = submission(taking(services, priority=Priority.PERSON))
    app.include_router(studies_router(services, asked))
    app.include_router(changes_router(Changes(lambda: state_of(services))))
    app.include_router(worklist_router(services, Counter(lambda: counts_of(services)), viewer=viewer is not None))
    app.include_router(
        pages_router(
            Pages(services.results, viewer=viewer is not None, decides=services.decisions is not None, rules=release)
        )
    )
    app.include_router(review_router(services.intake))
    _include_decisions(app, services)
    app.include_router(events_router(admit, submission(taken)))
    app.include_router(predict_router(services))
    app.include_router(health_router(services.checks))
    app.include_router(hub_router(Hub(), public_url=public_url))
    app.include_router(casting_router(services.results))
    optional = (
        metrics_router(services.metrics) if services.metrics else None,
        fhir_router(fhir) if fhir else None,
        chart_router(fhir.reports) if fhir else None,
        viewer_router(viewer, services.results) if viewer else None,
        keys_router(public_keys) if public_keys else None,
        login_router(login) if login else None,
        hook,
    )
    for router in filter(None, optional):
        app.include_router(router)
    if viewer is not None:
        serve_files(app, viewer)  # the last, since it takes whatever is left
    answer_with_problems(app)
    check_rules(app)
    app.add_middleware(Entrance, access=access or Access(), release=release)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts), www_redirect=False)
    app.add_middleware(Guard, max_body_bytes=max_body_bytes, shield=shield or Shield())
    return app


def _include_decisions(app: FastAPI, services: Services) -> None:
    if services.decisions is not None:
        app.include_router(decisions_router(services, services.decisions))


def _left(services: Services) -> tuple[Part, ...]:
    return (LeftDecisions(services.decisions, services.results),) if services.decisions else ()


def serve(app: FastAPI, *, host: str, port: int, tell: Callable[[str], object], proxies: tuple[str, ...] = ()) -> None:
    """Serve *app* until it is interrupted; *tell* is called with its address once the port is taken.

    Parameters
    ----------
    proxies : addresses and networks of proxies, whose word on who asks and whether by TLS is taken (X-Forwarded-For,
        X-Forwarded-Proto); nobody else's is.

    Raises
    ------
    InputError
        If the address is not free.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # whoever is told the address may ask at once
        except OSError as error:
            raise InputError(
                f"Port {port} on {host} cannot be used ({error.strerror}); choose another port."
            ) from error
        shown = f"[{host}]" if ":" in host else host
        tell(f"http://{shown}:{listening.getsockname()[1]}/")
        # No access log: addresses of requests hold identifiers of studies.
        config = uvicorn.Config(
            app,
            access_log=False,
            ws_max_size=MAX_SOCKET_BYTES,
            log_level="warning",
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
        )
        server = uvicorn.Server(config)
        app.state.is_ending = lambda: server.should_exit
        server.run(sockets=[listening])
