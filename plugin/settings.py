"""Every setting, in one place: the only module that reads the environment.

Each is set by an environment variable ``SIGHTLINE_<NAME>`` or a line in ``sightline.env`` of the working folder.
docs/settings.md has a paragraph for each; a test holds the two together.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from plugin.errors import InputError
from plugin.identity import sha256_hex


class Settings(BaseSettings):
    """Validated settings; frozen."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_", env_file="sightline.env", frozen=True, extra="ignore")

    data_dir: Path = Field(default=Path("sightline-data"), description="Queue and results of the service.")
    archive_url: str | None = Field(default=None, description="DICOMweb base URL; unset: archive_dir.")
    archive_dir: Path = Field(default=Path("sightline-data/dicom"), description="Folder archive, without a server.")
    archive_user: str | None = Field(default=None, description="User for HTTP basic authentication at the archive.")
    archive_password: SecretStr | None = Field(default=None, description="Its password.")
    archive_token: SecretStr | None = Field(default=None, description="Bearer token for the archive.")
    fhir_url: str | None = Field(default=None, description="FHIR R4 base URL; unset: reports_dir.")
    fhir_token: SecretStr | None = Field(default=None, description="Bearer token for the FHIR server.")
    reports_dir: Path = Field(
        default=Path("sightline-data/reports"), description="Folder of FHIR JSON, without a server."
    )
    model_dir: Path | None = Field(
        default=None, description="Folder with weights and manifest; unset: the shipped ones."
    )
    site_model: str | None = Field(
        default=None, description="spaCy model of the site whose entities add to the report reader's; unset: none."
    )
    host: str = Field(default="127.0.0.1", description="Address the service listens on.")
    port: int = Field(default=8042, ge=0, le=65535, description="Port the service listens on; 0 picks a free one.")
    public_url: str | None = Field(default=None, description="How browsers reach the service, for links in results.")
    allowed_hosts: str = Field(default="", description="Further host names of the service, with commas between; * any.")
    viewer_dir: Path | None = Field(default=None, description="OHIF's built files; unset: no viewer is served.")
    timeout_s: float = Field(default=30.0, gt=0, description="Longest wait for an answer of another server.")
    max_frontals: int = Field(default=2, ge=1, le=8, description="Most frontal images grounded per study.")
    max_attempts: int = Field(default=5, ge=1, description="Tries of a job before it is set aside as failed.")
    threads: int | None = Field(default=None, ge=1, description="Threads of the model; unset: all cores at hand.")

    @property
    def host_names(self) -> tuple[str, ...]:
        """Names that requests may use for the service, besides those of this machine's own loopback."""
        named = (name.strip() for name in self.allowed_hosts.split(","))
        public = urlsplit(self.public_url or "").hostname
        return tuple(dict.fromkeys(name for name in (public, *named) if name))

    @property
    def results_sha256(self) -> str:
        """Hash of the settings that change what is found and written; part of the identity of every result."""
        return sha256_hex(
            json.dumps({"max_frontals": self.max_frontals, "site_model": self.site_model}, sort_keys=True).encode()
        )


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
        lines = (f"SIGHTLINE_{str(error['loc'][0]).upper()}: {error['msg']}" for error in invalid.errors())
        raise InputError("Settings cannot be used. " + "; ".join(lines)) from None


def archive_headers(settings: Settings) -> dict[str, str]:
    """Authorization for the archive: the token, else user and password, else nothing."""
    if settings.archive_token is not None or settings.archive_user is None:
        return bearer(settings.archive_token)
    password = settings.archive_password.get_secret_value() if settings.archive_password else ""
    pair = base64.b64encode(f"{settings.archive_user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def bearer(token: SecretStr | None) -> dict[str, str]:
    """Authorization by *token*, or nothing."""
    return {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
