"""``sightline serve``: the service, with the settings of the environment."""

from __future__ import annotations

import signal
from dataclasses import replace

from rich.console import Console

from plugin.flow import Tools
from plugin.service.app import LOOPBACK, create_app
from plugin.service.app import serve as listen
from plugin.service.entrance import anybody
from plugin.service.events import Admission, SignedEvents, any_event, no_event
from plugin.service.logs import show_jobs
from plugin.settings import Settings, listed, load_settings
from plugin.wiring import (
    make_access,
    make_audit,
    make_doors,
    make_fhir,
    make_fhir_keys,
    make_hook,
    make_mllp,
    make_release,
    make_report_watcher,
    make_services,
    make_shield,
    make_subscriber,
    make_tools,
    make_viewer,
    make_watch,
)


def run(*, work: bool = True) -> int:
    """Serve until interrupted; without *work*, jobs wait for ``sightline work``."""
    settings = load_settings()
    make_access(settings)  # before the model is loaded, so that a service open to others is refused at once
    with Console().status("Loading the model"):
        tools = make_tools(settings)
    return serve(settings, tools=tools, work=work)


def serve(settings: Settings, *, tools: Tools, at: str = "", work: bool = True) -> int:
    """Serve until interrupted; says the address, with the path *at* to begin with."""
    audit = make_audit(settings)
    access = replace(make_access(settings), observe=audit.observe)
    services = make_services(settings, tools)
    services = replace(services, checks=(*services.checks, audit.check))
    reports = make_report_watcher(settings, services.intake)
    mllp = make_mllp(settings, wake=reports.wake) if reports else make_mllp(settings)
    if mllp is not None:
        mllp.take_port()  # before anything runs, so that a wrong setting is told at once
    app = create_app(
        services,
        allowed_hosts=(*LOOPBACK, *settings.host_names),
        access=access,
        shield=make_shield(settings),
        admit=admission(settings),
        work=work,
        viewer=make_viewer(settings),
        watch=make_watch(settings),
        public_keys=keys.public if (keys := make_fhir_keys(settings)) else None,
        fhir=make_fhir(settings),
        beside=tuple(part for part in (*audit.parts, mllp, reports, make_subscriber(settings)) if part is not None),
        hook=make_hook(settings, reports),
        public_url=settings.public_url,
        release=make_release(settings),
        login=make_doors(settings),
    )
    console = Console()
    if access.identify is anybody:
        console.print("Demo mode: there is no login, and only this machine reaches the service")
    show_jobs()
    signal.signal(signal.SIGHUP, lambda *_: services.renew())  # the model that the settings name by then
    listen(
        app,
        host=settings.host,
        port=settings.port,
        proxies=listed(settings.trusted_proxies),
        tell=lambda address: console.print(
            f"Serving {address.rstrip('/')}{at or '/'} (Ctrl-C ends it)", soft_wrap=True
        ),
    )
    return 0


def admission(settings: Settings) -> Admission:
    """Signed events when there is a secret; without one, all where only this machine tells them, and none elsewhere."""
    if settings.event_secret is not None:
        return SignedEvents(settings.event_secret.get_secret_value())
    return no_event if settings.reached_by_others else any_event
