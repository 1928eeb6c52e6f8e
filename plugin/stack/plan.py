"""What the stack consists of: programs, their settings and addresses. Decides only; starts nothing."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugin.stack.processes import Part

ROOT = Path(__file__).resolve().parents[2]
NPM = Path(__file__).resolve().parent / "npm"
OHIF = NPM / "node_modules" / "@ohif" / "app" / "dist"
USER = "sightline"
STABLE_S = 2
OLDEST_NODE = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """A stack in *folder*: the service on *port*, Orthanc and the FHIR engine on the two after it, all on loopback."""

    folder: Path
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def orthanc(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def fhir(self) -> str:
        return f"http://127.0.0.1:{self.port + 2}/fhir"

    @property
    def configuration(self) -> Path:
        """Where Orthanc's configuration is written."""
        return self.folder / "orthanc.json"

    @property
    def password(self) -> Path:
        """Where the password of Orthanc's one user is kept."""
        return self.folder / "orthanc-password"

    def parts(self, password: str) -> tuple[Part, Part, Part]:
        """Orthanc, the FHIR engine and the service, in the order in which they start."""
        orthanc = (which("Orthanc") or "Orthanc", str(self.configuration))
        fhir = (which("node") or "node", str(NPM / "fhir-server.cjs"), str(self.port + 2))
        service = (sys.executable, "-m", "plugin.cli", "serve")
        return (
            Part("orthanc", orthanc, self.folder),
            Part("fhir", fhir, self.folder),
            Part("sightline", service, self.folder, self.service_environment(password)),
        )

    def service_environment(self, password: str) -> dict[str, str]:
        """The settings of the service."""
        return {
            "SIGHTLINE_PORT": str(self.port),
            "SIGHTLINE_PUBLIC_URL": self.address,
            "SIGHTLINE_DATA_DIR": str(self.folder / "sightline"),
            "SIGHTLINE_ARCHIVE_URL": f"{self.orthanc}/dicom-web",
            "SIGHTLINE_ARCHIVE_USER": USER,
            "SIGHTLINE_ARCHIVE_PASSWORD": password,
            "SIGHTLINE_FHIR_URL": self.fhir,
            "SIGHTLINE_VIEWER_DIR": str(OHIF),
            "PYTHONPATH": str(ROOT),
        }

    def orthanc_configuration(self, password: str) -> dict[str, Any]:
        """The project's own configuration of Orthanc, for this machine alone."""
        settings: dict[str, Any] = json.loads((ROOT / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))
        storage = str(self.folder / "orthanc")
        return settings | {
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": self.port + 1,
            "RemoteAccessAllowed": False,
            "RegisteredUsers": {USER: password},
            "StableAge": STABLE_S,
            "PythonScript": str(ROOT / "orthanc" / "sightline.py"),
            "DicomWeb": settings["DicomWeb"] | {"Host": f"127.0.0.1:{self.port + 1}"},
            "Sightline": settings["Sightline"]
            | {"Url": self.address, "PublicUrl": self.address, "Viewer": True, "Token": "", "ReconcileSeconds": 5},
        }


def which(program: str) -> str | None:
    """The path of *program*, also from the folders for administrators, where Debian puts Orthanc."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


def missing(node_version: Callable[[str], int]) -> Iterator[str]:
    """What has to be installed first, a sentence each; *node_version* tells the major version of a Node program."""
    configuration = ROOT / "orthanc" / "orthanc.json"
    if not configuration.is_file():
        yield "the folder orthanc/ of the project: run this in a checkout of it"
        return
    plugins = json.loads(configuration.read_text(encoding="utf-8"))["Plugins"]
    if which("Orthanc") is None or not all(Path(plugin).is_file() for plugin in plugins):
        yield "Orthanc with its plugins: apt-get install orthanc orthanc-dicomweb orthanc-gdcm orthanc-python"
    node = which("node")
    if node is None or node_version(node) < OLDEST_NODE:
        yield f"Node {OLDEST_NODE} or newer: apt-get install nodejs, or https://nodejs.org"
    if not OHIF.is_dir() and which("npm") is None:
        yield "npm, to install OHIF and the FHIR engine once: apt-get install npm"
