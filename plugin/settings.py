"""Every setting, in one place: the only module that reads the environment.

Each is set by an environment variable ``SIGHTLINE_<NAME>`` or a line in ``sightline.env`` of the working folder; a
secret also by ``SIGHTLINE_<NAME>_FILE``, which names a file that holds it and nothing else. docs/settings.md has a
paragraph for each; a test holds the two together.
"""

from __future__ import annotations

import base64
import codecs
import ipaddress
import json
import re
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from plugin.access.roles import DEFAULT_ROLES, role_map
from plugin.access.secrets import known_programs
from plugin.audit.address import syslog_address
from plugin.endpoint import Endpoint, OAuthClient
from plugin.errors import InputError
from plugin.identity import sha256_hex
from plugin.outbound import origin_of

FHIR_SCOPE = (
    "system/DiagnosticReport.rs system/ImagingStudy.rs system/ServiceRequest.rs system/Patient.rs system/Binary.r "
    "system/Observation.crus system/Device.crus system/DocumentReference.crus system/Provenance.crus "
    "system/AuditEvent.crus"
)
"""What Sightline reads and what it writes, type by type, in the form of SMART App Launch 2."""

SMART_SCOPE = (
    "openid fhirUser patient/DocumentReference.rs patient/DiagnosticReport.rs patient/Observation.rs "
    "patient/ImagingStudy.rs user/DocumentReference.rs user/DiagnosticReport.rs user/Observation.rus "
    "user/ImagingStudy.rs"
)
"""What people who are launched may do here: patients read their own, radiologists read, and decide about regions."""


_USUAL = ("changeme", "change-me", "password", "passw0rd", "geheim", "orthanc", "default", "example", "12345", "admin")
_NO_PASSWORDS = frozenset({"archive_header", "database_url", "service_tokens"})


class FileSecrets(PydanticBaseSettingsSource):
    """The secrets that ``SIGHTLINE_<NAME>_FILE`` name files for, as container engines and systemd hand them over.

    Parameters
    ----------
    variables : the variables of the environment and of ``sightline.env``, in lower case.
    """

    def __init__(self, settings: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """What stands in the file, without white space around it; None when none is named.

        Raises
        ------
        InputError
            If the file cannot be read, or the secret is given by value too.
        """
        variable = f"sightline_{field_name}"
        file = self._variables.get(f"{variable}_file")
        if not file or SecretStr not in get_args(field.annotation):
            return None, field_name, False
        if self._variables.get(variable):
            raise InputError(f"{variable.upper()} and {variable.upper()}_FILE are both set; keep one of them.")
        try:
            return Path(file).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"The file of {variable.upper()}_FILE cannot be read ({type(error).__name__}): check its path."
            ) from None

    def __call__(self) -> dict[str, Any]:
        """The secrets that are in files."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value}


class Settings(BaseSettings):
    """Validated settings; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="SIGHTLINE_", env_file="sightline.env", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    data_dir: Path = Field(default=Path("sightline-data"), description="Queue and results of the service.")
    archive_url: str | None = Field(default=None, description="DICOMweb base URL; unset: archive_dir.")
    archive_dir: Path = Field(default=Path("sightline-data/dicom"), description="Folder archive, without a server.")
    archive_user: str | None = Field(default=None, description="User for HTTP basic authentication at the archive.")
    archive_password: SecretStr | None = Field(default=None, description="Its password.")
    archive_token: SecretStr | None = Field(default=None, description="Bearer token for the archive.")
    archive_header: SecretStr | None = Field(default=None, description='Header for the archive, "Name: value".')
    archive_token_url: str | None = Field(default=None, description="OAuth 2 token endpoint for the archive.")
    archive_client_id: str | None = Field(default=None, description="Client there (client credentials grant).")
    archive_client_secret: SecretStr | None = Field(default=None, description="Its secret.")
    archive_scope: str = Field(default="", description="Scope to ask for there.")
    archive_ca_file: Path | None = Field(default=None, description="Authorities that the archive's certificate is of.")
    archive_certificate_file: Path | None = Field(default=None, description="Our certificate for the archive.")
    archive_certificate_key_file: Path | None = Field(default=None, description="Its key, when it is not in that file.")
    orthanc_url: str | None = Field(default=None, description="Orthanc's REST address, for its change log.")
    watch_s: float | None = Field(default=None, gt=0, description="Seconds between looks for new studies; unset: none.")
    watch_quiet_s: float = Field(
        default=30.0, ge=0, le=21_600, description="Seconds without change until a study is complete."
    )
    watch_days: int = Field(default=7, ge=1, description="Days of study dates that every look goes over again.")
    watch_backlog: bool = Field(default=False, description="Whether the first look takes what the archive holds too.")
    event_secret: SecretStr | None = Field(default=None, description="Shared with the archive's script; signs events.")
    remove_rejected: bool = Field(default=False, description="Remove rejected results from Orthanc for good.")
    write_pictures: bool = Field(default=False, description="Also write pictures with the regions and phrases drawn.")
    write_heatmaps: bool = Field(default=False, description="Also write the graded heatmaps.")
    fhir_url: str | None = Field(default=None, description="FHIR base URL, R4 or R5; unset: reports_dir.")
    fhir_token: SecretStr | None = Field(default=None, description="Bearer token for the FHIR server.")
    fhir_user: str | None = Field(default=None, description="User for HTTP basic authentication at the FHIR server.")
    fhir_password: SecretStr | None = Field(default=None, description="Its password.")
    fhir_client_id: str | None = Field(default=None, description="Client of SMART backend services there.")
    fhir_key_file: Path | None = Field(default=None, description="Its private key, which signs.")
    fhir_previous_key_file: Path | None = Field(default=None, description="The key before it, while both hold.")
    fhir_scope: str = Field(default=FHIR_SCOPE, description="Scopes to ask for there.")
    fhir_token_url: str | None = Field(default=None, description="Token endpoint; unset: the FHIR server tells it.")
    fhir_ca_file: Path | None = Field(default=None, description="Authorities that the FHIR server's certificate is of.")
    fhir_certificate_file: Path | None = Field(default=None, description="Our certificate for the FHIR server.")
    fhir_certificate_key_file: Path | None = Field(default=None, description="Its key, when it is not in that file.")
    report_categories: str = Field(default="", description="Categories of reports to look for there; empty: any.")
    imaging_selection: Literal["none", "basic"] = Field(
        default="none", description="What an R4 server gets for a region: nothing, or a Basic."
    )
    write_imr: bool = Field(default=False, description="Also store multimedia reports at the FHIR server (IHE IMR).")
    organization: str | None = Field(default=None, description="Name of the institution that answers for reports.")
    organization_identifier: str | None = Field(default=None, description="Its identifier, system|value.")
    reports_dir: Path = Field(
        default=Path("sightline-data/reports"), description="Folder of FHIR JSON, without a server."
    )
    reports_every_s: float = Field(default=60, ge=0, description="Seconds between looks for reports; 0: none.")
    reports_sweep_h: float = Field(default=24, gt=0, description="Hours between looks at all reports there are.")
    reports_backlog: bool = Field(default=False, description="Whether the first look takes the reports that are there.")
    reports_wait_days: float = Field(default=30, gt=0, description="Days that a report waits for its images.")
    reports_whole_order: bool = Field(default=False, description="Whether a report is about all studies of its order.")
    read_pdf: bool = Field(default=False, description="Read reports that are PDF and nothing else.")
    hook_secret: SecretStr | None = Field(default=None, description="What the FHIR server wakes us with; unset: none.")
    hook_url: str | None = Field(default=None, description="How the FHIR server reaches us; unset: public_url.")
    subscription_topic: str = Field(default="", description="The FHIR server's topic of reports; empty: by criteria.")
    mllp_port: int | None = Field(default=None, ge=0, le=65535, description="Port for HL7 v2 results; unset: none.")
    mllp_host: str = Field(default="127.0.0.1", description="Address that HL7 v2 results are received on.")
    mllp_senders: str = Field(default="", description="Who may send them: addresses or networks; empty: anybody.")
    hl7_charset: str = Field(default="windows-1252", description="Of HL7 v2 text that tells none and is not UTF-8.")
    hl7_accession: str = Field(default="OBR-3,OBR-18", description="HL7 v2 fields that hold the accession number.")
    release_delay_h: float = Field(default=0, ge=0, description="Hours until patients see a report after its release.")
    release_conversation: str = Field(default="", description="Findings that patients are to hear of from a person.")
    release_conversation_h: float = Field(default=72, ge=0, description="Hours until patients see reports of those.")
    model_dir: str | None = Field(
        default=None, description="Folder with weights and manifest, or its address; unset: the shipped ones."
    )
    model_sha256: str | None = Field(default=None, description="SHA-256 of that manifest; needed with an address.")
    offline: bool = Field(default=False, description="Fetch no model: use what is on this machine.")
    site_model: str | None = Field(
        default=None, description="spaCy model of the site whose entities add to the report reader's; unset: none."
    )
    host: str = Field(default="127.0.0.1", description="Address the service listens on.")
    port: int = Field(default=8042, ge=0, le=65535, description="Port the service listens on; 0 picks a free one.")
    public_url: str | None = Field(default=None, description="How browsers reach the service, for links in results.")
    allowed_hosts: str = Field(default="", description="Further host names of the service, with commas between; * any.")
    login_issuer: str | None = Field(default=None, description="OpenID issuer whose tokens and logins are taken.")
    login_audience: str | None = Field(default=None, description="For whom its tokens are; unset: public_url.")
    login_origins: str = Field(default="", description="Further origins of its endpoints, with commas between.")
    login_ca_file: Path | None = Field(default=None, description="Authorities that its certificate is of.")
    login_proxy: str | None = Field(default=None, description="Proxy that the issuer is reached through.")
    login_role_claim: str = Field(default="roles", description="Claim with the roles; dots lead into objects.")
    login_roles: str = Field(default=DEFAULT_ROLES, description="What its values mean, value=role with commas between.")
    login_patient_claim: str = Field(default="patient", description="Claim with the patient's FHIR id.")
    login_client_id: str | None = Field(default=None, description="Our client there; unset: no login with a browser.")
    login_client_secret: SecretStr | None = Field(default=None, description="Its secret; unset: a public client.")
    login_idle_min: float = Field(default=30, gt=0, le=1440, description="Minutes without a request until a logout.")
    login_hours: float = Field(default=12, gt=0, le=168, description="Hours until everybody has to log in again.")
    smart_iss: str = Field(default="", description="Further addresses of the FHIR server, by which portals launch us.")
    smart_scope: str = Field(default=SMART_SCOPE, description="Scopes to ask for in a launch, besides launch itself.")
    frame_ancestors: str = Field(default="", description="Portals that may show our pages in a frame, with commas.")
    trusted_proxies: str = Field(default="", description="Addresses or networks of proxies that tell who asks.")
    requests_per_minute: float = Field(default=1200, gt=0, description="Of one client; half as many may come together.")
    requests_at_once: int = Field(default=32, ge=1, description="Requests of one client that are worked on together.")
    service_tokens: SecretStr | None = Field(default=None, description="Programs that may come in: name, role, hash.")
    viewer_dir: Path | None = Field(default=None, description="OHIF's built files; unset: no viewer is served.")
    timeout_s: float = Field(default=30.0, gt=0, description="Longest wait for an answer of another server.")
    max_frontals: int = Field(default=2, ge=1, le=8, description="Most frontal images grounded per study.")
    max_attempts: int = Field(default=5, ge=1, description="Tries of a job before it is set aside as failed.")
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL database of jobs and reports; unset: a file in data_dir."
    )
    jobs_at_once: int = Field(default=1, ge=1, le=64, description="Jobs that one process works on at the same time.")
    reads_at_once: int = Field(
        default=4, ge=1, le=64, description="Images that jobs fetch and decode at the same time."
    )
    writes_at_once: int = Field(default=4, ge=1, le=64, description="Results that jobs write at the same time.")
    audit_fhir: bool = Field(default=True, description="Copy the audit trail to the FHIR server, if there is one.")
    audit_syslog: str | None = Field(default=None, description="Syslog server for it, over TLS, host:port.")
    audit_syslog_ca_file: Path | None = Field(default=None, description="Authorities its certificate is of.")
    audit_syslog_certificate_file: Path | None = Field(default=None, description="Our certificate for it.")
    audit_syslog_certificate_key_file: Path | None = Field(default=None, description="Its key, when not in that file.")
    metrics_port: int | None = Field(default=None, ge=1, le=65535, description="Port of `sightline work` for /metrics.")
    otlp_url: str | None = Field(default=None, description="Collector of traces, OTLP over HTTP; unset: none.")
    keep_jobs_days: float = Field(default=30.0, gt=0, description="Days for which jobs that are done are remembered.")
    engine: Literal["torch", "cuda", "openvino", "openvino-bf16", "onnx"] = Field(
        default="torch", description="What runs the model."
    )
    correct_orientation: bool = Field(
        default=False, description="Ground a film that lies on its side or upside down as if it were upright."
    )
    operating_point: Literal["sensitive", "balanced", "specific"] | None = Field(
        default=None, description="How much is marked; unset: the model's tuned threshold."
    )
    threads: int | None = Field(default=None, ge=1, description="Threads of the model; unset: all cores at hand.")
    batch_wait_ms: float = Field(default=5, ge=0, le=1000, description="How long an idle model waits for more to ask.")
    batch_images: int = Field(default=1, ge=1, le=256, description="Most images that the model is given together.")
    batch_phrases: int = Field(default=16, ge=16, le=4096, description="Most phrases that it is given together.")
    model_timeout_s: float = Field(default=300, gt=0, description="Longest wait for the model's answer to a batch.")

    @field_validator("event_secret", "hook_secret")
    @classmethod
    def _not_weak(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters")
        return secret

    @field_validator("login_roles")
    @classmethod
    def _roles(cls, roles: str) -> str:
        role_map(roles)
        return roles

    @field_validator("service_tokens")
    @classmethod
    def _programs(cls, tokens: SecretStr | None) -> SecretStr | None:
        if tokens is not None:
            known_programs(tokens.get_secret_value())
        return tokens

    @field_validator("frame_ancestors", "smart_iss", "login_origins")
    @classmethod
    def _addresses(cls, addresses: str) -> str:
        for each in listed(addresses):
            found = origin_of(each)
            if found is None or "*" in each or (found.scheme != "https" and not is_loopback(found.host)):
                raise ValueError("must be https addresses, with commas between")
        return addresses

    @field_validator("login_proxy")
    @classmethod
    def _known_proxy(cls, proxy: str | None) -> str | None:
        if proxy is not None and (origin_of(proxy) is None or "@" in proxy):
            raise ValueError("expected http://host:port, without user and password")
        return proxy

    @field_validator("login_issuer")
    @classmethod
    def _safe_issuer(cls, issuer: str | None) -> str | None:
        """Whoever stands between us and the issuer could make everybody's tokens."""
        found = origin_of(issuer or "")
        if issuer is not None and (found is None or (found.scheme != "https" and not is_loopback(found.host))):
            raise ValueError("must be an https address")
        return issuer

    @field_validator("mllp_senders", "trusted_proxies")
    @classmethod
    def _networks(cls, named: str) -> str:
        for each in listed(named):
            ipaddress.ip_network(each, strict=False)
        return named

    @field_validator("audit_syslog")
    @classmethod
    def _a_syslog_server(cls, address: str | None) -> str | None:
        if address is not None:
            syslog_address(address)
        return address

    @field_validator("hl7_charset")
    @classmethod
    def _a_codec(cls, name: str) -> str:
        try:
            return codecs.lookup(name).name
        except LookupError:
            raise ValueError("must be a character set that Python knows") from None

    @field_validator("hl7_accession")
    @classmethod
    def _accession_fields(cls, names: str) -> str:
        if not re.fullmatch(r"(?:OBR-(?:2|3|18|19|20)|ORC-[23])(?:,(?:OBR-(?:2|3|18|19|20)|ORC-[23]))*", names):
            raise ValueError("must be some of OBR-2, OBR-3, OBR-18, OBR-19, OBR-20, ORC-2, ORC-3, with commas between")
        return names

    @field_validator("archive_header")
    @classmethod
    def _a_header(cls, header: SecretStr | None) -> SecretStr | None:
        if header is not None and not re.fullmatch(
            r"[!#$%&'*+.^_`|~\w-]+:[ \t]*[^\r\n]+", header.get_secret_value(), re.ASCII
        ):
            raise ValueError('must be a header, "Name: value"')
        return header

    @field_validator("fhir_scope")
    @classmethod
    def _one_by_one(cls, scope: str) -> str:
        if "*" in scope:
            raise ValueError("must list scopes one by one, without *")
        return scope

    @model_validator(mode="after")
    def _one_way_into_fhir(self) -> Settings:
        if sum(way is not None for way in (self.fhir_user, self.fhir_token, self.fhir_client_id)) > 1:
            raise ValueError("set one of SIGHTLINE_FHIR_USER, _TOKEN and _CLIENT_ID")
        if self.fhir_client_id is not None and self.fhir_key_file is None:
            raise ValueError("SIGHTLINE_FHIR_CLIENT_ID needs SIGHTLINE_FHIR_KEY_FILE")
        return self

    @model_validator(mode="after")
    def _one_authorization(self) -> Settings:
        ways = (self.archive_user, self.archive_token, self.archive_token_url)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("set one of SIGHTLINE_ARCHIVE_USER, _TOKEN and _TOKEN_URL")
        if self.archive_token_url is not None and (
            self.archive_client_id is None or self.archive_client_secret is None
        ):
            raise ValueError("SIGHTLINE_ARCHIVE_TOKEN_URL needs SIGHTLINE_ARCHIVE_CLIENT_ID and _CLIENT_SECRET")
        return self

    @model_validator(mode="after")
    def _for_whom_tokens_are(self) -> Settings:
        if self.login_issuer is not None and not (self.login_audience or self.public_url):
            raise ValueError("SIGHTLINE_LOGIN_ISSUER needs SIGHTLINE_LOGIN_AUDIENCE, or SIGHTLINE_PUBLIC_URL")
        if self.login_client_id is not None and self.public_url is None:
            raise ValueError("SIGHTLINE_LOGIN_CLIENT_ID needs SIGHTLINE_PUBLIC_URL")
        if self.login_client_id is not None and self.login_issuer is None and self.fhir_url is None:
            raise ValueError("SIGHTLINE_LOGIN_CLIENT_ID needs SIGHTLINE_LOGIN_ISSUER, or SIGHTLINE_FHIR_URL")
        return self

    @model_validator(mode="after")
    def _links_and_organization(self) -> Settings:
        if self.write_imr and (self.public_url is None or self.organization is None):
            raise ValueError("SIGHTLINE_WRITE_IMR needs SIGHTLINE_PUBLIC_URL and SIGHTLINE_ORGANIZATION")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a folder, of the base class; FileSecrets takes its place
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then ``sightline.env``; files of secrets that either names."""
        named = [dict(s.env_vars) for s in (env_settings, dotenv_settings) if isinstance(s, EnvSettingsSource)]
        return init_settings, env_settings, dotenv_settings, FileSecrets(settings_cls, ChainMap(*named))

    @property
    def on_loopback(self) -> bool:
        """Whether the service listens to this machine alone."""
        return is_loopback(self.host)

    @property
    def reached_by_others(self) -> bool:
        """Whether others than this machine's programs may reach the service: by its address, or through a proxy."""
        return not self.on_loopback or not all(map(is_loopback, self.host_names))

    @property
    def smart_servers(self) -> tuple[str, ...]:
        """The addresses of the FHIR server, without slashes at their ends."""
        named = (self.fhir_url or "", *listed(self.smart_iss))
        return tuple(dict.fromkeys(each.strip().rstrip("/") for each in named if each.strip()))

    @property
    def weak_secrets(self) -> tuple[str, ...]:
        """The variables of secrets that anybody could guess."""
        shortest = {"event_secret": 16, "hook_secret": 16}
        set_ = {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), SecretStr)}
        guessed = (
            name
            for name, secret in set_.items()
            if name not in _NO_PASSWORDS and is_weak(secret.get_secret_value(), shortest.get(name, 8))
        )
        return tuple(f"SIGHTLINE_{name.upper()}" for name in guessed)

    @property
    def host_names(self) -> tuple[str, ...]:
        """Names that requests may use for the service, besides those of this machine's own loopback."""
        public, hook = (urlsplit(url or "").hostname for url in (self.public_url, self.hook_url))
        return tuple(dict.fromkeys(name for name in (public, hook, *listed(self.allowed_hosts)) if name))

    @property
    def hook_endpoint(self) -> str:
        """Where the FHIR server can say that a report may have come; "" when it is given no address."""
        root = (self.hook_url or self.public_url or "").rstrip("/")
        return f"{root}/hooks/reports" if root else ""

    @property
    def results_sha256(self) -> str:
        """Hash of the settings that change what is found and written; part of the identity of every result."""
        found = ("max_frontals", "site_model", "engine", "correct_orientation", "operating_point")
        names = (*found, "write_pictures", "write_heatmaps")
        return sha256_hex(json.dumps({name: getattr(self, name) for name in names}, sort_keys=True).encode())

    def with_model_of(self, other: Settings) -> Settings:
        """These settings with the model that *other* names, and what runs it."""
        names = ("model_dir", "model_sha256", "engine", "operating_point", "threads")
        return self.model_copy(update={name: getattr(other, name) for name in names})


def listed(text: str) -> tuple[str, ...]:
    """The entries of a list with commas between."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine, and reached from it alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_weak(secret: str, shortest: int) -> bool:
    """Whether anybody could guess *secret*: it is short, of few characters, or like those of examples and images."""
    return len(secret) < shortest or len(set(secret)) < 5 or any(word in secret.lower() for word in _USUAL)


def load_settings() -> Settings:
    """The settings of this process.

    Raises
    ------
    InputError
        If one has a value that cannot be; names the variable, never its value.
    """
    try:
        return Settings()
    except ValidationError as invalid:
        raise InputError("Settings cannot be used. " + "; ".join(map(_wrong, invalid.errors()))) from None


def _wrong(error: ErrorDetails) -> str:
    """One error of validation, without the value."""
    named = f"SIGHTLINE_{str(error['loc'][0]).upper()}: " if error["loc"] else ""
    return named + error["msg"]


def archive_headers(settings: Settings) -> dict[str, str]:
    """What the archive is shown with every request: the site's own header, and the token or user and password."""
    name, _, value = settings.archive_header.get_secret_value().partition(":") if settings.archive_header else ("",) * 3
    return _authorization(settings) | ({name: value.strip()} if name else {})


def _authorization(settings: Settings) -> dict[str, str]:
    return basic(settings.archive_user, settings.archive_password) or bearer(settings.archive_token)


def fhir_endpoint(settings: Settings, url: str) -> Endpoint:
    """The FHIR server at *url*; a client of SMART backend services signs in besides.

    Raises
    ------
    InputError
        If that is no HTTP address, or a file of certificates does not exist.
    """
    return Endpoint(
        url,
        basic(settings.fhir_user, settings.fhir_password) or bearer(settings.fhir_token),
        ca_file=settings.fhir_ca_file,
        timeout_s=settings.timeout_s,
        certificate_file=settings.fhir_certificate_file,
        certificate_key_file=settings.fhir_certificate_key_file,
        named="FHIR server",
    )


def archive_endpoint(settings: Settings, url: str) -> Endpoint:
    """The archive's server at *url*, a base address of its DICOMweb or of its own interface.

    Raises
    ------
    InputError
        If that is no HTTP address, or the file of authorities does not exist.
    """
    oauth = None
    if settings.archive_token_url and settings.archive_client_id and settings.archive_client_secret:
        secret = settings.archive_client_secret.get_secret_value()
        oauth = OAuthClient(settings.archive_token_url, settings.archive_client_id, secret, settings.archive_scope)
    return Endpoint(
        url,
        archive_headers(settings),
        oauth=oauth,
        ca_file=settings.archive_ca_file,
        timeout_s=settings.timeout_s,
        certificate_file=settings.archive_certificate_file,
        certificate_key_file=settings.archive_certificate_key_file,
    )


def basic(user: str | None, password: SecretStr | None) -> dict[str, str]:
    """Authorization by *user* and *password*, or nothing."""
    if user is None:
        return {}
    pair = base64.b64encode(f"{user}:{password.get_secret_value() if password else ''}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def bearer(token: SecretStr | None) -> dict[str, str]:
    """Authorization by *token*, or nothing."""
    return {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
