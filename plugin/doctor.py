"""What Sightline needs, looked at one by one: each check says what is there, or what is missing and how to mend it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from plugin.endpoint import session_of
from plugin.errors import InputError, SightlineError, TransientError
from plugin.settings import Settings, archive_endpoint

CLOCK_S = 5.0  # waits are told by it: a job would begin so much too early or too late
_JSON = {"Accept": "application/json"}
MEMORY_BYTES = 2 * 1024**3  # the demo study's peak stays below it; measured by tests/acceptance


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: *detail* says what was seen; *mend*, what to do, is empty exactly when all is well."""

    what: str
    detail: str
    mend: str = ""

    @property
    def ok(self) -> bool:
        return not self.mend


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which a start-up would need them. Changes nothing but probing files it removes."""
    yield python_version(sys.version_info[:3])
    for package in ("torch", "spacy", "scispacy", "pydicom", "highdicom", "dicomweb-client", "fhir.resources"):
        yield installed(package)
    for codec, syntaxes in (("openjpeg", "JPEG 2000"), ("rle", "RLE"), ("gdcm", "JPEG lossless and JPEG-LS")):
        yield decoder(codec, syntaxes)
    yield memory()
    yield weights(settings)
    yield writable(settings.data_dir)
    yield database(settings)
    yield archive(settings)
    if settings.orthanc_url is not None:
        yield change_log(settings)
    yield reports(settings)
    if settings.fhir_url is not None:
        yield hook(settings)
    if settings.mllp_port is not None:
        yield mllp(settings)
    yield login(settings)
    if settings.fhir_key_file is not None:
        yield fhir_keys(settings)
    if settings.fhir_url is not None and settings.fhir_client_id is not None:
        yield fhir_scopes(settings)
    yield events(settings)
    yield port(settings)


def python_version(version: tuple[int, int, int]) -> Finding:
    """Python 3.11 or newer."""
    seen = ".".join(map(str, version))
    return Finding(
        "Python", seen, "" if version >= (3, 11, 0) else "install Python 3.11 or newer, then make clean demo"
    )


def installed(package: str) -> Finding:
    """An importable distribution."""
    try:
        return Finding(package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, "not installed", "run make demo again, or pip install -e . in your environment")


def decoder(codec: str, syntaxes: str) -> Finding:
    """A codec plugin without which images in some transfer syntaxes cannot be read."""
    if importlib.util.find_spec(codec):
        return Finding(f"decoder {codec}", syntaxes)
    return Finding(f"decoder {codec}", f"{syntaxes} cannot be read", "pip install -e . brings it")


def memory() -> Finding:
    """Physical memory, where the system tells."""
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return Finding("memory", "not told by this system")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    seen = f"{total / 1024**3:.1f} GiB"
    return Finding("memory", seen, "" if total >= MEMORY_BYTES else "give this machine or container at least 2 GiB")


def weights(settings: Settings) -> Finding:
    """The model's weights, whole and as their manifest says."""
    from plugin.wiring import make_grounder

    try:
        card = make_grounder(settings).card
    except SightlineError as error:
        return Finding("model", str(error), "mend SIGHTLINE_MODEL_DIR or SIGHTLINE_ENGINE, or unset them")
    return Finding("model", f"{card.name} {card.version}, weights {card.weights_sha256[:12]}, engine {settings.engine}")


def writable(folder: Path) -> Finding:
    """The folder for queue and results, or the nearest one above it that exists, takes files."""
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    if os.access(nearest, os.W_OK | os.X_OK):
        return Finding("data folder", str(folder))
    return Finding(
        "data folder", f"{folder} cannot be written", "change its owner, or set SIGHTLINE_DATA_DIR to another"
    )


def database(settings: Settings) -> Finding:
    """The database of jobs and reports: it answers, its tables are this release's, and its clock is ours."""
    from plugin.wiring import look_at_database

    mend = "check SIGHTLINE_DATABASE_URL, and that PostgreSQL runs" if settings.database_url else "mend the data folder"
    try:
        seen = look_at_database(settings)
    except SightlineError as error:
        return Finding("database", str(error), mend)
    if abs(seen.ahead_s) > CLOCK_S:
        apart = f"{seen.server}, its clock is {seen.ahead_s:+.0f} s from this machine's"
        return Finding("database", apart, "set both clocks by the same time server (NTP)")
    if seen.tables > seen.newest:
        later = f"{seen.server}, a later release made its tables ({seen.tables}, this one knows {seen.newest})"
        return Finding("database", later, "install that release, or a later one")
    made = "are" if seen.tables == seen.newest else "will be" if seen.tables == 0 else "are old and will be"
    return Finding("database", f"{seen.server}, the tables {made} those of this release")


def archive(settings: Settings) -> Finding:
    """The folder, or the DICOMweb server with the credentials given."""
    if settings.archive_url is None:
        return _folder("image archive", settings.archive_dir, "SIGHTLINE_ARCHIVE_URL")
    return _at_archive("image archive", f"{settings.archive_url.rstrip('/')}/studies", "SIGHTLINE_ARCHIVE_", settings)


def change_log(settings: Settings) -> Finding:
    """Orthanc's own interface, with the credentials of the archive."""
    url = f"{(settings.orthanc_url or '').rstrip('/')}/changes"
    return _at_archive("Orthanc's change log", url, "SIGHTLINE_ORTHANC_", settings)


def events(settings: Settings) -> Finding:
    """Whose events are taken."""
    if settings.event_secret is not None:
        return Finding("events", "signed ones are taken")
    if not settings.reached_by_others:
        return Finding("events", "taken from this machine, unsigned")
    mend = "set SIGHTLINE_EVENT_SECRET, and the same in Orthanc's script"
    return Finding("events", "none is taken: others reach the service, and no secret is set", mend)


def _at_archive(what: str, url: str, prefix: str, settings: Settings) -> Finding:
    try:
        session = session_of(archive_endpoint(settings, url))
        answer = session.get(url, params={"limit": 1}, headers=_JSON, timeout=settings.timeout_s)
    except InputError as error:
        return Finding(what, str(error), "check the settings that begin with SIGHTLINE_ARCHIVE_")
    except (requests.RequestException, TransientError) as error:
        return _no_answer(what, error, prefix)
    return _answer(what, answer.status_code, prefix)


def reports(settings: Settings) -> Finding:
    """The folder, or the FHIR server: signed in at, and asked for a report."""
    from plugin.wiring import make_fhir_client

    if settings.fhir_url is None:
        return _folder("report store", settings.reports_dir, "SIGHTLINE_FHIR_URL")
    try:
        server = make_fhir_client(settings, settings.fhir_url).impatient()
        told = server.capability
        next(server.pages("DiagnosticReport", (("_count", "1"), ("_elements", "id"))), None)
    except SightlineError as error:
        return Finding("report store", str(error), "check the settings that begin with SIGHTLINE_FHIR_")
    return Finding("report store", f"answers, FHIR {told.release.value}{f'; {told.note}' if told.note else ''}")


def login(settings: Settings) -> Finding:
    """Whether anybody has to log in, and whether everybody who logs people in answers with keys that can be used."""
    from plugin.wiring import make_access, make_doors, make_issuer

    what = "login"
    try:
        access = make_access(settings)
        issuers = (
            {"SIGHTLINE_LOGIN_ISSUER": make_issuer(settings, settings.login_issuer)} if settings.login_issuer else {}
        )
        if (doors := make_doors(settings)) is not None:
            issuers |= {
                f"the FHIR server at {name}": provider.issuer
                for name, provider in doors.login.providers.items()
                if provider.aud
            }
        for named, issuer in issuers.items():
            try:
                issuer.endpoints()
            except SightlineError:
                return Finding(what, f"{named} does not say who it is and how people log in", f"Check {named}.")
    except InputError as error:
        return Finding(what, "the service would not start", str(error))
    if access.cookie or issuers:
        return Finding(what, f"{len(issuers)} to log in at, answering")
    return Finding(what, "of programs alone" if access.limits else "none: demo mode, for this machine alone")


def fhir_keys(settings: Settings) -> Finding:
    """The keys that sign us in at the FHIR server, and where it can read their public halves."""
    from plugin.wiring import make_fhir_keys

    try:
        files = make_fhir_keys(settings)
        keys = files.keys() if files else ()
    except InputError as error:
        return Finding("FHIR keys", str(error), "mend SIGHTLINE_FHIR_KEY_FILE and _PREVIOUS_KEY_FILE, or unset them")
    named = ", ".join(f"{key.algorithm} {key.key_id}" for key in keys)
    where = f"{(settings.public_url or '').rstrip('/')}/.well-known/jwks.json"
    return Finding("FHIR keys", f"{named}; published at {where}")


def fhir_scopes(settings: Settings) -> Finding:
    """What the FHIR server lets our client do, of what it was asked for."""
    from plugin.wiring import make_fhir_client

    try:
        missing = make_fhir_client(settings, settings.fhir_url or "").lacking_scopes()
    except SightlineError as error:
        return Finding("FHIR scopes", str(error), "check the settings that begin with SIGHTLINE_FHIR_")
    if not missing:
        return Finding("FHIR scopes", "all that were asked for")
    return Finding(
        "FHIR scopes", f"lacks {' '.join(missing)}", "grant them to our client, or mend SIGHTLINE_FHIR_SCOPE"
    )


def _folder(what: str, folder: Path, instead: str) -> Finding:
    if folder.is_dir():
        return Finding(what, f"folder {folder}")
    return Finding(what, f"folder {folder} is not there", f"make the folder, or set {instead} to a server")


def _no_answer(what: str, error: Exception, prefix: str) -> Finding:
    return Finding(what, f"no answer ({type(error).__name__})", f"check {prefix}URL, and that the server runs")


def _answer(what: str, status: int, prefix: str) -> Finding:
    if status in (401, 403):
        return Finding(what, f"refuses us (HTTP {status})", f"check {prefix}TOKEN, or the other way to sign in")
    if status >= 300:
        return Finding(what, f"answers HTTP {status}", f"check that {prefix}URL is the base address")
    return Finding(what, "answers")


def hook(settings: Settings) -> Finding:
    """Whether the FHIR server wakes us. It need not, so only settings that cannot work are to be mended."""
    if settings.hook_secret is None:
        return Finding("report hook", "none: reports are found by polling alone")
    if not settings.hook_endpoint:
        return Finding("report hook", "the FHIR server has no address of ours", "set SIGHTLINE_HOOK_URL")
    from plugin.wiring import hook_of, make_fhir_client

    try:
        found = make_fhir_client(settings, settings.fhir_url or "").read(hook_of(settings).name)
    except SightlineError as error:
        return Finding("report hook", f"cannot be looked at, polling goes on ({error})")
    if found is None:
        return Finding("report hook", "no subscription: `sightline serve` makes it, if the server takes any; it polls")
    status = found.string("status")
    if status in ("requested", "active"):
        return Finding("report hook", f"the subscription is {status}")
    mend = "check that the FHIR server reaches SIGHTLINE_HOOK_URL"
    return Finding("report hook", f"the subscription is {status or 'without status'}; polling goes on", mend)


def mllp(settings: Settings) -> Finding:
    """HL7 v2 results: the port is free, somebody looks where they are kept, and the folder takes files."""
    if settings.fhir_url is not None:
        return Finding("HL7 v2", "reports are looked for at the FHIR server", "unset SIGHTLINE_MLLP_PORT or _FHIR_URL")
    kept = writable(settings.reports_dir)
    if not kept.ok:
        return Finding("HL7 v2", kept.detail, "change its owner, or set SIGHTLINE_REPORTS_DIR to another")
    return _free("HL7 v2", settings.mllp_host, settings.mllp_port or 0, "SIGHTLINE_MLLP_PORT")


def port(settings: Settings) -> Finding:
    """The service's port is free."""
    return _free("port", settings.host, settings.port, "SIGHTLINE_PORT")


def _free(what: str, host: str, number: int, variable: str) -> Finding:
    where = f"{host}:{number}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return Finding(what, f"{where} cannot be used ({error.strerror})", f"stop its user, or set {variable}")
    return Finding(what, where)
