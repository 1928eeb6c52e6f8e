"""The composition root: the only module that names implementations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from plugin.attempt import GroundingWork
from plugin.audit.access import record_of
from plugin.audit.address import syslog_address
from plugin.backfill import progress_in
from plugin.batching import Batching, SharedModel
from plugin.breaker import Bound, Breaker, guarded
from plugin.doctor import Finding, archive, reports
from plugin.endpoint import Endpoint
from plugin.errors import InputError, TransientError
from plugin.fhir.multimedia import Organization
from plugin.flow import Edges, PageUrl, Publication, Tools
from plugin.identity import derived_id
from plugin.imr.endpoint import MultimediaReports
from plugin.imr.shelf import ResultShelf
from plugin.intake import Intake
from plugin.locking import locked
from plugin.noticing import ReportWatch
from plugin.page.address import page_path
from plugin.page.release import Rules
from plugin.policy import Policy
from plugin.ports import (
    DecisionBook,
    Grounder,
    ImageArchive,
    JobQueue,
    Priority,
    ReportBook,
    ReportFeed,
    ReportStore,
    StudyFeed,
)
from plugin.renewal import Fitted, ModelInForce
from plugin.results import ResultFolder
from plugin.service.entrance import Access
from plugin.service.fhir import FhirService
from plugin.service.guard import Shield, behind_tls
from plugin.service.metrics import Metrics
from plugin.service.parts import Check, Part, Services
from plugin.service.problems import log_defect
from plugin.service.viewer import Viewer
from plugin.service.watcher import ReportWatcher
from plugin.settings import Settings, archive_endpoint, fhir_endpoint, listed, load_settings
from plugin.taking import Decisions
from plugin.tracing import traced
from plugin.values import StudyRef
from plugin.watch import Watch, WatchBook

if TYPE_CHECKING:
    import httpx
    from fastapi import APIRouter

    from plugin.access.events import AccessEvent
    from plugin.access.issuer import Issuer
    from plugin.access.roles import RoleMap
    from plugin.audit.writing import AuditWriter
    from plugin.durable import Database, DatabaseState
    from plugin.fhir.client import FhirClient
    from plugin.fhir.keys import KeyFiles
    from plugin.fhir.subscription import Hook
    from plugin.hl7v2.mllp import MllpListener
    from plugin.service.login import Doors
    from plugin.service.subscriber import Subscriber


def make_grounder(settings: Settings) -> Grounder:
    """The model: the shipped one, or a site's.

    Raises
    ------
    InputError
        If its weights are missing, damaged, or not those of their manifest, or its engine cannot run here.
    """
    from model.engines.engine import EngineError
    from model.grounder import load_grounder
    from model.sources import SourceError
    from model.suitability.judge import SuitabilityError
    from model.weights import WeightsError

    try:
        return load_grounder(
            model_folder(settings),
            threads=settings.threads,
            engine=settings.engine,
            cache=settings.data_dir / "engines",
            operating_point=settings.operating_point,
        )
    except (SourceError, WeightsError) as error:
        raise InputError(f"the model cannot be used: {error}; mend SIGHTLINE_MODEL_DIR, or unset it") from error
    except SuitabilityError as error:
        raise InputError(f"the model cannot be used: {error}; install Sightline again") from error
    except EngineError as error:
        raise InputError(f"SIGHTLINE_ENGINE cannot be used: {error}") from error


def model_folder(settings: Settings) -> Path | None:
    """The folder of the site's model, fetched when it lies elsewhere; None for the shipped one.

    Raises
    ------
    model.sources.SourceError, model.weights.WeightsError
        If it cannot be had.
    """
    from model.weights import fetch_weights

    if settings.model_dir is None:
        return None
    cache = settings.data_dir / "models"
    return fetch_weights(
        settings.model_dir, manifest_sha256=settings.model_sha256, cache=cache, offline=settings.offline
    )


def make_tools(settings: Settings) -> Tools:
    """Reader and model, loaded.

    Raises
    ------
    InputError
        If a model that the settings name cannot be used.
    """
    from nlp.reader import READER_VERSION, read_report

    reader = partial(read_report, site_model=settings.site_model)
    try:
        reader("No pleural effusion.")  # loads what it needs, so that a wrong setting is told at once
    except OSError as error:
        raise InputError("the model of SIGHTLINE_SITE_MODEL is not installed: install it, or unset it") from error
    return Tools(
        read_report=reader,
        reader_version=READER_VERSION,
        grounder=make_grounder(settings),
        max_frontals=settings.max_frontals,
        correct_orientation=settings.correct_orientation,
        settings_sha256=settings.results_sha256,
        clock=lambda: datetime.now(UTC),
        pictures=settings.write_pictures,
        heatmaps=settings.write_heatmaps,
        organization=organization_of(settings),
        basic_regions=settings.imaging_selection == "basic",
    )


def organization_of(settings: Settings) -> Organization | None:
    """The institution of the settings, or None."""
    if settings.organization is None:
        return None
    system, separator, value = (settings.organization_identifier or "").rpartition("|")
    return Organization(settings.organization, system if separator else "", value)


def make_edges(settings: Settings) -> Edges:
    """Archive, report store, results and radiologists' decisions of the settings.

    Raises
    ------
    InputError, TransientError
        If they cannot be used.
    """
    results = ResultFolder(settings.data_dir / "results")
    publication, decisions = make_publication(settings), make_decision_book(settings)
    return Edges(make_archive(settings), make_reports(settings), results, publication, decisions)


def make_decision_book(settings: Settings) -> DecisionBook:
    """What radiologists decided, in the database of the jobs.

    Raises
    ------
    InputError, TransientError
        If it cannot be used.
    """
    from plugin.durable import DatabaseDecisionBook

    return DatabaseDecisionBook(make_database(settings))


def audit_folder(settings: Settings) -> Path:
    """Where the audit trail is."""
    return settings.data_dir / "audit"


def make_audit(settings: Settings) -> Audit:
    """The audit trail, and what copies it elsewhere.

    Raises
    ------
    InputError
        If a file that the settings name cannot be used.
    """
    from plugin.audit.fhir import FhirSink
    from plugin.audit.forwarding import Forwarder, Sink
    from plugin.audit.syslog import SyslogSink
    from plugin.audit.trail import Trail
    from plugin.audit.writing import AuditWriter

    trail = Trail(audit_folder(settings))
    sinks: list[Sink] = []
    if settings.audit_fhir and settings.fhir_url is not None:
        sinks.append(FhirSink(make_reports(settings)))
    if settings.audit_syslog is not None:
        host, port = syslog_address(settings.audit_syslog)
        files = (settings.audit_syslog_ca_file, settings.audit_syslog_certificate_file)
        key = settings.audit_syslog_certificate_key_file
        sinks.append(SyslogSink(host, port, *files, key, timeout_s=settings.timeout_s))
    return Audit(AuditWriter(trail), tuple(Forwarder(trail, sink) for sink in sinks))


@dataclass(frozen=True, slots=True)
class Audit:
    """What listens at the entrance, and runs beside the routes."""

    writer: AuditWriter
    forwarders: tuple[Part, ...]

    def observe(self, event: AccessEvent) -> None:
        """Keep a decision of the entrance; returns at once."""
        if (record := record_of(event)) is not None:
            self.writer.note(record)

    @property
    def parts(self) -> tuple[Part, ...]:
        """To be started in this order, and ended in the other."""
        return (*self.forwarders, self.writer)

    @property
    def check(self) -> Check:
        """For readiness."""
        return Check("audit", self.writer.check)


def make_access(settings: Settings) -> Access:
    """Who is let in.

    Raises
    ------
    InputError
        If nobody would have to log in, though others reach the service, or a secret could be guessed.
    """
    from plugin.access.identification import Known
    from plugin.access.limits import Limits
    from plugin.access.secrets import known_programs
    from plugin.service.login import way_in

    programs = known_programs(settings.service_tokens.get_secret_value()) if settings.service_tokens else ()
    if settings.login_issuer is None and settings.login_client_id is None and not programs:
        if settings.reached_by_others:
            raise InputError(
                "Nobody would have to log in, though others reach the service (SIGHTLINE_HOST, SIGHTLINE_PUBLIC_URL or "
                "SIGHTLINE_ALLOWED_HOSTS): set SIGHTLINE_LOGIN_ISSUER, or SIGHTLINE_SERVICE_TOKENS_FILE for programs "
                "alone. docs/access.md tells how"
            )
        return Access()
    if settings.reached_by_others and (weak := settings.weak_secrets):
        raise InputError(f"{', '.join(weak)} can be guessed: make a long random one, as `openssl rand -hex 24` does")
    issuer = make_issuer(settings, settings.login_issuer) if settings.login_issuer else None
    audience = settings.login_audience or settings.public_url or ""
    doors = make_doors(settings)
    sessions = doors.login.sessions if doors else None
    return Access(
        Known(programs, make_roles(settings), issuer, (audience,), sessions),
        cookie=doors.cookies.session if doors else "",
        way_in=way_in if doors else None,
        limits=Limits(settings.requests_per_minute, settings.requests_at_once),
    )


def make_shield(settings: Settings) -> Shield:
    """What answers tell browsers to hold to."""
    portals = (urlsplit(each) for each in listed(settings.frame_ancestors))
    return Shield(tuple(f"{each.scheme}://{each.netloc}" for each in portals), behind_tls(settings.public_url))


def make_roles(settings: Settings) -> RoleMap:
    """Who somebody is, by the claims of their issuer."""
    from plugin.access.roles import RoleMap, role_map

    return RoleMap(
        role_map(settings.login_roles),
        role_claim=settings.login_role_claim,
        patient_claim=settings.login_patient_claim,
        fhir_urls=settings.smart_servers,
    )


def make_doors(settings: Settings) -> Doors | None:
    """How people log in with a browser: at the site's issuer, and by launches; None: they do not."""
    from plugin.access.login import OPENID_SCOPE, Login, Provider
    from plugin.access.sessions import Sessions
    from plugin.fhir.sending import Sender
    from plugin.service.login import Cookies, Doors

    if settings.login_client_id is None or settings.public_url is None:
        return None

    def provider(url: str, *, smart: bool) -> Provider:
        # A code is taken once: an answer that did not come is not asked for again.
        sender = Sender(login_pool(settings, url), timeout_s=settings.timeout_s, named="the login", delays_s=())
        scope = settings.smart_scope if smart else OPENID_SCOPE
        return Provider(make_issuer(settings, url, smart=smart), sender, scope, url if smart else "")

    providers = {url: provider(url, smart=True) for url in settings.smart_servers}
    usual = next(iter(providers), "")
    if settings.login_issuer is not None:
        usual = "issuer"
        providers[usual] = provider(settings.login_issuer, smart=False)
    login = Login(
        providers,
        Sessions(
            sessions_file(settings),
            idle_s=settings.login_idle_min * 60,
            longest_s=settings.login_hours * 3600,
        ),
        make_roles(settings),
        settings.login_client_id,
        f"{settings.public_url.rstrip('/')}/callback",
        settings.login_client_secret.get_secret_value() if settings.login_client_secret else "",
        keys.keys if (keys := make_fhir_keys(settings)) else tuple,
    )
    return Doors(login, Cookies(behind_tls(settings.public_url), bool(settings.frame_ancestors)), usual)


def sessions_file(settings: Settings) -> Path:
    """Where the sessions of browsers are kept."""
    return settings.data_dir / "sessions.sqlite"


def make_issuer(settings: Settings, url: str, *, smart: bool = False) -> Issuer:
    """The issuer that is found at *url*.

    Raises
    ------
    InputError
        If a file of certificates holds none.
    """
    from plugin.access.fetching import JsonReader
    from plugin.access.issuer import Issuer

    return Issuer(url, JsonReader(login_pool(settings, url), timeout_s=settings.timeout_s), smart=smart)


def login_pool(settings: Settings, url: str) -> httpx.Client:
    """Connections to the issuer at *url*, and to the further origins of its endpoints that the settings name."""
    from plugin.fhir.signing_in import pool_of

    endpoint = Endpoint(url, ca_file=settings.login_ca_file, timeout_s=settings.timeout_s, named="login")
    return pool_of(endpoint, further=listed(settings.login_origins), proxy=settings.login_proxy)


def make_publication(settings: Settings) -> Publication | None:
    """Where multimedia reports are stored, when the settings want that; None: only our own endpoint has them."""
    from plugin.reports.repository import FhirReportRepository, FolderReportRepository

    if not settings.write_imr or settings.public_url is None:
        return None
    base = settings.public_url.rstrip("/")
    if settings.fhir_url is None:
        return Publication(FolderReportRepository(settings.data_dir / "fhir"), base)
    return Publication(FhirReportRepository(make_fhir_client(settings, settings.fhir_url)), base)


def make_archive(settings: Settings) -> ImageArchive:
    """The DICOMweb server of the settings, or their folder."""
    from plugin.archive import folder_archive, web_archive

    if settings.archive_url is None:
        settings.archive_dir.mkdir(parents=True, exist_ok=True)
        return folder_archive((settings.archive_dir,), store_in=settings.archive_dir)
    endpoint = archive_endpoint(settings, settings.archive_url)
    return web_archive(endpoint, orthanc=_remover(settings))


def _remover(settings: Settings) -> Endpoint | None:
    if not settings.remove_rejected:
        return None
    if settings.orthanc_url is None:
        raise InputError("SIGHTLINE_REMOVE_REJECTED needs Orthanc's own address: set SIGHTLINE_ORTHANC_URL, too")
    return archive_endpoint(settings, settings.orthanc_url)


def make_reports(settings: Settings) -> ReportStore:
    """The FHIR server of the settings, or their folder."""
    if settings.fhir_url is None:
        from plugin.reports.folder import FolderReportStore

        settings.reports_dir.mkdir(parents=True, exist_ok=True)
        return FolderReportStore(settings.reports_dir, settings.data_dir / "fhir", read_pdf=pdf_reader(settings))
    from plugin.reports.rest import FhirReportStore

    lock = partial(locked, settings.data_dir / "fhir.lock")
    server = make_fhir_client(settings, settings.fhir_url)
    return FhirReportStore(server, alone=lock, read_pdf=pdf_reader(settings))


def pdf_reader(settings: Settings) -> Callable[[bytes], str] | None:
    """What makes text of PDFs; None: they are not read."""
    from plugin.fhir.pdf import text_of_pdf

    return text_of_pdf if settings.read_pdf else None


@cache
def make_fhir_client(settings: Settings, url: str) -> FhirClient:
    """The FHIR server at *url*, signed in at as the settings say; its ``release`` tells what to write for.

    One for each server, so that all that is done there shares connections and token.

    Raises
    ------
    InputError
        If that is no HTTP address, or a file that the settings name cannot be used.
    """
    from plugin.fhir.client import FhirClient
    from plugin.fhir.sending import Sender
    from plugin.fhir.signing_in import BackendService, Bearer, SmartTokens, pool_of

    endpoint = fhir_endpoint(settings, url)
    pool = pool_of(endpoint, further=(settings.fhir_token_url or "",))
    auth = None
    if settings.fhir_client_id is not None and (keys := make_fhir_keys(settings)) is not None:
        service = BackendService(
            settings.fhir_client_id, keys, tuple(settings.fhir_scope.split()), settings.fhir_token_url or ""
        )
        auth = Bearer(url, SmartTokens(url, service, Sender(pool, timeout_s=settings.timeout_s)))
    return FhirClient(url, client=pool, headers=endpoint.headers, auth=auth, timeout_s=settings.timeout_s)


def make_fhir_keys(settings: Settings) -> KeyFiles | None:
    """The keys that the settings name for signing in at FHIR servers.

    Raises
    ------
    InputError
        If one cannot be used.
    """
    from plugin.fhir.keys import KeyFiles

    if settings.fhir_key_file is None:
        return None
    keys = KeyFiles(settings.fhir_key_file, settings.fhir_previous_key_file)
    keys.keys()  # so that a wrong file is told at once
    return keys


def make_report_feed(settings: Settings) -> ReportFeed:
    """What is new at the FHIR server of the settings, or in their folder."""
    if settings.fhir_url is None:
        from plugin.reports.feeds import FolderReportFeed

        settings.reports_dir.mkdir(parents=True, exist_ok=True)
        return FolderReportFeed(settings.reports_dir, settings.data_dir / "fhir", read_pdf=pdf_reader(settings))
    from plugin.reports.feeds import FhirReportFeed

    server = make_fhir_client(settings, settings.fhir_url)
    return FhirReportFeed(server, categories=settings.report_categories, read_pdf=pdf_reader(settings))


def make_fhir(settings: Settings) -> FhirService:
    """Our own FHIR endpoint over the results."""
    shelf = ResultShelf(ResultFolder(settings.data_dir / "results"))
    reports = MultimediaReports(shelf, (settings.fhir_url or "").rstrip("/"))
    return FhirService(reports, settings.public_url, creates=settings.write_imr)


def make_release(settings: Settings) -> Rules:
    """When patients see a report.

    Raises
    ------
    InputError
        If a finding is named that the lexicon does not have.
    """
    from nlp.lexicon import concepts

    named = frozenset(listed(settings.release_conversation))
    unknown = sorted(name for name in named if name not in concepts())
    if unknown:
        raise InputError(f"SIGHTLINE_RELEASE_CONVERSATION: {unknown[0]!r} is no finding of nlp/lexicon.csv; mend it")
    return Rules(settings.release_delay_h, settings.release_conversation_h, named)


def make_hook(settings: Settings, reports: ReportWatcher | None) -> APIRouter | None:
    """Where the FHIR server wakes the watcher of reports; None: nowhere.

    Raises
    ------
    InputError
        If nothing looks for reports.
    """
    from plugin.service.hooks import hooks_router

    if settings.hook_secret is None:
        return None
    if reports is None:
        raise InputError("SIGHTLINE_HOOK_SECRET wakes the poll: set SIGHTLINE_REPORTS_EVERY_S, too, or unset it")
    return hooks_router(settings.hook_secret.get_secret_value(), reports.wake)


def make_subscriber(settings: Settings) -> Subscriber | None:
    """What asks the FHIR server to wake us; None: nothing does.

    Raises
    ------
    InputError
        If the server is not told where to reach us.
    """
    if settings.hook_secret is None or settings.fhir_url is None:
        return None
    if not settings.hook_endpoint:
        raise InputError("SIGHTLINE_HOOK_SECRET needs an address: set SIGHTLINE_HOOK_URL, too, or unset it")
    from plugin.service.subscriber import Subscriber

    return Subscriber(make_fhir_client(settings, settings.fhir_url), hook_of(settings))


def hook_of(settings: Settings) -> Hook:
    """How the FHIR server is asked to wake us."""
    from plugin.fhir.subscription import Hook

    secret = settings.hook_secret.get_secret_value() if settings.hook_secret else ""
    return Hook(settings.hook_endpoint, secret, settings.report_categories, settings.subscription_topic)


def make_mllp(settings: Settings, *, wake: Callable[[], object] = lambda: None) -> MllpListener | None:
    """What receives HL7 v2 results, into the folder of reports, and tells *wake* of new ones; None: nothing does.

    Raises
    ------
    InputError
        If the reports are on a FHIR server, so that nobody would look into that folder.
    """
    if settings.mllp_port is None:
        return None
    if settings.fhir_url is not None:
        raise InputError("SIGHTLINE_MLLP_PORT is for sites without a FHIR server: unset it, or SIGHTLINE_FHIR_URL")
    from ipaddress import ip_network

    from plugin.hl7v2.inbox import Inbox
    from plugin.hl7v2.mllp import MllpListener
    from plugin.hl7v2.receiver import Receiver

    receiver = Receiver(
        Inbox(settings.reports_dir / "hl7"),
        otherwise=settings.hl7_charset,
        accession_fields=tuple(settings.hl7_accession.split(",")),
        wake=wake,
    )
    senders = tuple(ip_network(each, strict=False) for each in listed(settings.mllp_senders))
    return MllpListener(
        settings.mllp_host, settings.mllp_port, answer=receiver, refuse=receiver.refused, senders=senders
    )


def make_database(settings: Settings) -> Database:
    """Where jobs and reports are kept: a file of the data folder, or the PostgreSQL database that the settings name.

    Raises
    ------
    InputError
        If the settings name no such database.
    """
    url = settings.database_url.get_secret_value() if settings.database_url else None
    return _database(url or f"sqlite:///{(settings.data_dir / 'jobs.sqlite').absolute()}")


def look_at_database(settings: Settings) -> DatabaseState:
    """What that database is like.

    Raises
    ------
    InputError
        If the settings name no such database.
    TransientError
        If it does not answer.
    """
    from plugin.durable import state_of

    return state_of(make_database(settings))


@cache
def _database(url: str) -> Database:
    """One for each address, so that all that is done there shares connections."""
    from plugin.durable import Database

    return Database(url)


def make_queue(settings: Settings, *, metrics: Metrics | None = None, usual: Priority = Priority.NEW) -> JobQueue:
    """The jobs.

    Raises
    ------
    InputError
        If the settings name no such database.
    TransientError
        If it does not answer.
    """
    from plugin.durable import DurableQueue

    return DurableQueue(
        make_database(settings),
        Policy(max_attempts=settings.max_attempts),
        at_once=settings.jobs_at_once,
        keep_days=settings.keep_jobs_days,
        usual=usual,
        observe=metrics.observe if metrics else lambda _: None,
    )


def make_page_url(settings: Settings) -> PageUrl | None:
    """Where the evidence pages of this service are, when the settings say where it is itself."""
    root = settings.public_url
    if root is None:
        return None
    return lambda study, report_id: f"{root.rstrip('/')}{page_path(study, report_id)}"


def make_model(settings: Settings, tools: Tools, *, metrics: Metrics) -> ModelInForce:
    """The model of *tools*, shared by all jobs here; the next one is what the settings name when it is asked for."""

    def fitted(settings: Settings, tools: Tools) -> Fitted:
        load = partial(make_grounder, settings)
        batching = batching_of(settings)
        return Fitted(tools, SharedModel(tools.grounder, load, batching=batching, observe=metrics.observe))

    def following() -> Fitted:
        renewed = settings.with_model_of(load_settings())
        grounder = make_grounder(renewed)
        return fitted(renewed, replace(tools, grounder=grounder, settings_sha256=renewed.results_sha256))

    return ModelInForce(fitted(settings, tools), following)


def batching_of(settings: Settings) -> Batching:
    """How much the model answers together."""
    return Batching(
        wait_s=settings.batch_wait_ms / 1000,
        images=settings.batch_images,
        phrases=settings.batch_phrases,
        timeout_s=settings.model_timeout_s,
    )


def make_book(settings: Settings) -> ReportBook:
    """The book of reports; that of an earlier release is taken over.

    Raises
    ------
    InputError
        If that cannot be done.
    TransientError
        If the database does not answer.
    """
    from plugin.durable import DatabaseReportBook

    book = DatabaseReportBook(make_database(settings))
    book.take_over(settings.data_dir / "reports.sqlite")
    return book


def open_databases(settings: Settings) -> tuple[Database, ...]:
    """Every database with rows about patients: that of the jobs, and files of SQLite in the data folder."""
    from plugin.durable import Database

    main = make_database(settings)
    files = (path.absolute() for path in sorted(settings.data_dir.glob("*.sqlite*")))
    others = [path for path in files if not path.name.endswith(("-wal", "-shm", "-journal"))]
    own = None if main.on_postgresql else main.file.absolute()
    return (main, *(Database(f"sqlite:///{path}") for path in others if path != own))


def make_intake(settings: Settings, edges: Edges, *, queue: JobQueue, makers: Callable[[], tuple[str, ...]]) -> Intake:
    """What makes jobs of reports and studies; its book is in the database of the jobs.

    Raises
    ------
    InputError
        If the book of an earlier release, in the data folder, cannot be taken over.
    TransientError
        If the database does not answer.
    """
    return Intake(
        edges.archive,
        edges.reports,
        queue,
        make_book(settings),
        makers,
        wait=timedelta(days=settings.reports_wait_days),
        whole_orders=settings.reports_whole_order,
    )


def make_report_watcher(settings: Settings, intake: Intake) -> ReportWatcher | None:
    """What looks for new and changed reports, of all services on one database one at a time; None: nothing does."""
    if settings.reports_every_s == 0:
        return None
    from plugin.durable import presence_of

    place = settings.fhir_url or f"folder {settings.reports_dir}"
    name = f"{place} {settings.report_categories}".strip()
    watch = ReportWatch(
        make_report_feed(settings),
        name,
        intake,
        every_s=settings.reports_every_s,
        sweep_s=settings.reports_sweep_h * 3600,
        backlog=settings.reports_backlog,
        defect=log_defect,
    )
    lock = derived_id("looking for reports", name)
    return ReportWatcher(watch, alone=partial(presence_of(make_database(settings)).free, lock))


def patient(edges: Edges) -> Edges:
    """*edges* whose servers are left alone for a while when they fail again and again."""
    return replace(
        edges,
        archive=guarded(edges.archive, Breaker("the archive", clock=time.monotonic)),
        reports=guarded(edges.reports, Breaker("the report store", clock=time.monotonic)),
    )


def bounded(edges: Edges, *, reads: int, writes: int) -> Edges:
    """*edges* where so many images are read, and so many results are written, at the same time."""
    writing = Bound(writes)
    archive = guarded(edges.archive, Bound(reads), only=("read",))
    return replace(
        edges,
        archive=guarded(archive, writing, only=("store", "remove")),
        reports=guarded(edges.reports, writing, only=("write",)),
    )


def make_services(settings: Settings, tools: Tools) -> Services:
    """Everything the service's routes call."""
    from plugin.dicom.pixels import radiograph_of

    edges = make_edges(settings)
    metrics = Metrics()
    queue = make_queue(settings, metrics=metrics)
    metrics.watch(queue)
    model = make_model(settings, tools, metrics=metrics)
    intake = make_intake(settings, edges, queue=queue, makers=model.makers)
    working = bounded(patient(edges), reads=settings.reads_at_once, writes=settings.writes_at_once)

    return Services(
        queue=queue,
        results=edges.results,
        work=traced(GroundingWork(intake, working, model.tools, make_page_url(settings)), settings.otlp_url),
        intake=intake,
        grounder=model.grounder,
        read_report=tools.read_report,
        read_dicom=radiograph_of,
        checks=(
            Check("archive", partial(demand, settings, archive)),
            Check("reports", partial(demand, settings, reports)),
            Check("database", queue.backlog),
            Check("model", model.probe),
        ),
        metrics=metrics,
        decisions=Decisions(edges.decisions, queue, intake.join) if edges.decisions else None,
        progress=lambda: progress_in(settings.data_dir, now=datetime.now(UTC)),
        renew=model.renew_aside,
    )


def make_watch(settings: Settings) -> Watch | None:
    """How the settings want the archive looked at: by Orthanc's change log, or by QIDO-RS; None: not at all.

    Raises
    ------
    InputError
        If there is no server to look at.
    """
    from plugin.feeds import OrthancFeed, qido_feed

    if settings.watch_s is None:
        return None
    url = settings.orthanc_url or settings.archive_url
    if url is None:
        raise InputError("SIGHTLINE_WATCH_S needs a server: set SIGHTLINE_ARCHIVE_URL, too, or unset it")
    endpoint = archive_endpoint(settings, url)
    feed: StudyFeed = OrthancFeed(endpoint)
    if settings.orthanc_url is None:
        feed = qido_feed(endpoint, days=settings.watch_days, today=lambda: datetime.now(UTC).date())
    return Watch(
        feed,
        WatchBook(settings.data_dir / "watch.sqlite", url),
        every_s=settings.watch_s,
        quiet_s=settings.watch_quiet_s,
        backlog=settings.watch_backlog,
    )


def make_days(settings: Settings, modality: str) -> Callable[[date], tuple[StudyRef, ...]]:
    """What the archive holds of a day, of that modality.

    Raises
    ------
    InputError
        If there is no server to ask.
    """
    from plugin.feeds import studies_of

    if settings.archive_url is None:
        raise InputError("a backfill needs a DICOMweb server: set SIGHTLINE_ARCHIVE_URL")
    return studies_of(archive_endpoint(settings, settings.archive_url), modality=modality)


def make_viewer(settings: Settings) -> Viewer | None:
    """What serves OHIF, when the settings name its files.

    Raises
    ------
    InputError
        If they are not there, or there is no DICOMweb server for it to read.
    """
    from plugin.dicom.instance import series_of

    folder = settings.viewer_dir
    if folder is None:
        return None
    if not (folder / "index.html").is_file():
        raise InputError("SIGHTLINE_VIEWER_DIR holds no index.html: name the folder dist of @ohif/app, or unset it")
    if settings.archive_url is None:
        raise InputError("SIGHTLINE_VIEWER_DIR needs a DICOMweb server: set SIGHTLINE_ARCHIVE_URL, too, or unset it")
    return Viewer(folder, archive_endpoint(settings, settings.archive_url), series_of)


def demand(settings: Settings, check: Callable[[Settings], Finding]) -> None:
    """Turn a doctor's finding into an error.

    Raises
    ------
    TransientError
        If all is not well.
    """
    found = check(settings)
    if not found.ok:
        raise TransientError(f"{found.what}: {found.detail}")
