"""``sightline stack``: Orthanc, a FHIR engine, the service and OHIF on this machine, with an example to look at."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console

from plugin.archive import sole_study_in
from plugin.commands.synth import run as synthesise
from plugin.errors import InputError
from plugin.stack.example import send, wait_for_results
from plugin.stack.plan import NPM, OHIF, USER, Plan, missing, which
from plugin.stack.processes import is_running, start, stop

SEED = 18


def up(*, folder: Path, port: int) -> int:
    """Start what does not run yet, bring the example in, and say where to look; twice changes nothing.

    Raises
    ------
    InputError
        If a program is missing, or a port is taken by something else.
    TransientError
        If a part does not start; what was started stays, ``down`` ends it.
    """
    console, plan = Console(), Plan(folder.absolute(), port)
    if wanting := tuple(missing(_node_version)):
        raise InputError("the stack needs, first:\n  " + "\n  ".join(wanting))
    _install(console)
    password = _password(plan)
    _write_configuration(plan, password)
    _check_ports(plan, password)
    with (
        httpx.Client(base_url=plan.orthanc, auth=(USER, password), timeout=30) as orthanc,
        httpx.Client(base_url=f"{plan.fhir}/", timeout=30) as fhir,
        httpx.Client(base_url=plan.address, timeout=30) as service,
    ):
        asked = ((orthanc, "/system"), (fhir, "metadata"), (service, "/health/live"))
        for part, (client, path) in zip(plan.parts(password), asked, strict=True):
            with console.status(f"Starting {part.name}"):
                new = start(part, ready=partial(_answers, client, path))
            console.print(f"{part.name:10} {'started' if new else 'runs already'}; log: {part.log}", soft_wrap=True)
        study = _example(plan, console=console, orthanc=orthanc, fhir=fhir, service=service)
    _say_where(plan, study, console=console)
    return 0


def down(*, folder: Path, port: int) -> int:
    """End what :func:`up` started in *folder*, and nothing else; what was stored stays."""
    console = Console()
    for part in reversed(Plan(folder.absolute(), port).parts("")):
        console.print(f"{part.name:10} {'ended' if stop(part) else 'was not running'}")
    return 0


def status(*, folder: Path, port: int) -> int:
    """Say what runs; 0 when everything does, else 1."""
    console, plan = Console(), Plan(folder.absolute(), port)
    states = {part.name: is_running(part) for part in plan.parts("")}
    for name, running in states.items():
        console.print(f"{name:10} {'runs' if running else 'does not run'}")
    if all(states.values()):
        console.print(f"service    {plan.address}")
    return 0 if all(states.values()) else 1


def _node_version(node: str) -> int:
    command = [node, "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - Node as found on PATH
    major = told.strip().removeprefix("v").partition(".")[0]
    return int(major) if major.isdecimal() else 0


def _install(console: Console) -> None:
    """OHIF and the FHIR engine, exactly as the lock file says, unless they are there."""
    if OHIF.is_dir() and (NPM / "node_modules" / "@medplum" / "fhir-router").is_dir():
        return
    command = [which("npm") or "npm", "ci", "--omit=dev", "--ignore-scripts", "--loglevel=error", "--no-progress"]
    with console.status("Installing OHIF and the FHIR engine from npm (320 MB, once)"):
        answer = subprocess.run(command, cwd=NPM, capture_output=True, text=True, check=False)  # noqa: S603 - npm
    if answer.returncode:
        raise InputError(f"npm could not install OHIF and the FHIR engine:\n{answer.stderr[-1000:]}")


def _password(plan: Plan) -> str:
    """Orthanc's password: made once, readable by this user alone."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    if not plan.password.exists():
        with os.fdopen(os.open(plan.password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
    return plan.password.read_text(encoding="utf-8")


def _write_configuration(plan: Plan, password: str) -> None:
    plan.configuration.touch(mode=0o600)
    plan.configuration.chmod(0o600)
    plan.configuration.write_text(json.dumps(plan.orthanc_configuration(password), indent=1), encoding="utf-8")


def _check_ports(plan: Plan, password: str) -> None:
    for offset, part in zip((1, 2, 0), plan.parts(password), strict=True):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                if not is_running(part):
                    probe.bind(("127.0.0.1", plan.port + offset))
            except OSError:
                raise InputError(
                    f"port {plan.port + offset}, for {part.name}, is taken: end its user, or choose another --port"
                ) from None


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).is_success
    except httpx.TransportError:
        return False


def _example(plan: Plan, *, console: Console, orthanc: httpx.Client, fhir: httpx.Client, service: httpx.Client) -> str:
    """Bring the example study in and wait for its results; its Study Instance UID."""
    folder = plan.folder / "example" / f"study-{SEED}"
    if not folder.is_dir():
        synthesise(out=folder.parent, seed=SEED, count=1)
    uid = sole_study_in((folder,)).study_instance_uid
    with console.status("Grounding the example study") as spinner:
        send(folder, orthanc=orthanc, fhir=fhir)
        wait_for_results(uid, service=service, tell=lambda state: spinner.update(f"Example study: {state}"))
    console.print("example    grounded")
    return uid


def _say_where(plan: Plan, study: str, *, console: Console) -> None:
    at = f"{plan.address}/studies/{study}"
    lines = (
        ("viewer, lit", f"{at}/viewer"),
        ("viewer, structured report", f"{at}/viewer?show=sr"),
        ("evidence page", f"{at}/radiologist"),
        ("all studies", f"{plan.address}/"),
        ("Orthanc", f"{plan.orthanc}/app/explorer.html (user {USER}, password in {plan.password})"),
        ("FHIR, in memory", plan.fhir),
    )
    console.print()
    for what, where in lines:
        console.print(f"{what:26} {where}", soft_wrap=True, highlight=False)
    console.print(f"\nEverything is kept in {plan.folder}; sightline stack down ends it.", soft_wrap=True)
