"""Every route, every role: each cell of the table asked over HTTP."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from memory import Site
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from plugin.access.caller import Caller, Proof, Role
from plugin.access.events import AccessEvent, Decision
from plugin.access.login import Login
from plugin.access.ports import Credentials, UnknownError
from plugin.access.roles import RoleMap
from plugin.access.rules import RULES, Rule, rule_for
from plugin.access.sessions import Sessions
from plugin.endpoint import Endpoint
from plugin.imr.endpoint import MultimediaReports
from plugin.imr.shelf import ResultShelf
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.entrance import Access, Entrance, check_rules, routes_of, visit_of
from plugin.service.fhir import FhirService
from plugin.service.hooks import hooks_router
from plugin.service.login import Cookies, Doors
from plugin.service.metrics import Metrics
from plugin.service.viewer import Viewer
from plugin.taking import Decisions

# Who may: p(atient), r(adiologist), o(perator), s(ervice); "open" to all, or entered by a proof of the route's "own".
TABLE = {
    "live": "open",
    "ready": "open",
    "public-keys": "open",
    "login": "open",
    "launch": "open",
    "callback": "open",
    "logout": "pros",
    "event": "own",
    "hook": "own",
    "hook-resource": "own",
    "metrics": "os",
    "description": "pros",
    "home": "ro",
    "changes": "ro",
    "worklist-parts": "ro",
    "icon": "pros",
    "submit": "ros",
    "jobs": "ros",
    "job": "ros",
    "job-action": "os",
    "review-list": "ro",
    "review": "ro",
    "review-decision": "ro",
    "review-check": "ro",
    "chart": "pr",
    "evidence": "rs",
    "page": "prs",
    "reports": "prs",
    "evidence-of-report": "rs",
    "page-of-report": "prs",
    "patient-of-study": "prs",
    "patient": "prs",
    "patient-image": "prs",
    "radiologist-of-study": "r",
    "radiologist": "r",
    "radiologist-image": "r",
    "heatmaps": "r",
    "files": "r",
    "page-parts": "pros",
    "decisions": "rs",
    "decision": "r",
    "predict": "rs",
    "hub": "rs",
    "hub-topic": "rs",
    "hub-current": "rs",
    "hub-socket": "own",
    "hub-configuration": "open",
    "hub-own-configuration": "open",
    "cast": "rs",
    "fhir-metadata": "pros",
    "fhir-reports": "prs",
    "fhir-reports-form": "prs",
    "fhir-report": "prs",
    "fhir-page": "prs",
    "fhir-observation": "prs",
    "fhir-selections": "prs",
    "fhir-selections-form": "prs",
    "fhir-selection": "prs",
    "fhir-base": "pros",
    "fhir-others": "pros",
    "viewer-link": "prs",
    "series": "prs",
    "dicomweb": "prs",
    "viewer": "prs",
    "viewer-path": "prs",
    "viewer-configuration": "prs",
    "viewer-panel": "prs",
    "viewer-files": "prs",
}
VALUES = {
    "study_instance_uid": "1.2.3",
    "report_id": "r1",
    "job_id": "j1",
    "resource_id": "x1",
    "sop_instance_uid": "1.2.3.4",
    "tracking_uid": "2.25.1",
    "name": "sightline.js",
    "resource:path": "studies/1.2.3/metadata",
    "_:path": "a/b",
    "path:path": "ohif.js",
    "topic": "t1",
    "endpoint": "e1",
}
NOBODY = (None, "wrong")
EVERYONE = (*NOBODY, *Role)


def identify(credentials: Credentials) -> Caller | None:
    """The token is the name of the role."""
    if not credentials.bearer:
        return None
    if credentials.bearer not in tuple(Role):
        raise UnknownError("The token is not taken.")
    role = Role(credentials.bearer)
    return Caller(f"{role} one", frozenset({role}), Proof.TOKEN, patient="Patient/p1" if role is Role.PATIENT else "")


def services(folder: Path) -> Services:
    site = Site(folder / "data")
    unused: Any = None
    return Services(
        site.queue,
        ResultFolder(folder / "results"),
        (),
        site.intake,
        unused,
        unused,
        unused,
        metrics=Metrics(),
        decisions=Decisions(site.decisions, site.queue),
    )


def application(folder: Path, **settings: Any) -> FastAPI:
    """The service with every route that it can have; the archive behind the viewer is away."""
    (folder / "ohif").mkdir(exist_ok=True)
    for name in ("index.html", "ohif.js"):
        (folder / "ohif" / name).write_text("x", encoding="utf-8")
    made = services(folder)
    results = made.results
    assert isinstance(results, ResultFolder)
    archive = Endpoint("http://127.0.0.1:9/dicom-web", timeout_s=1)
    login = Login({}, Sessions(folder / "sessions.sqlite"), RoleMap({}), "sightline", "http://127.0.0.1/callback")
    app = create_app(
        made,
        work=False,
        viewer=Viewer(folder / "ohif", archive, lambda _: "1.2"),
        public_keys=lambda: {"keys": []},
        fhir=FhirService(MultimediaReports(ResultShelf(results))),
        hook=hooks_router("the site's hook secret", lambda: None),
        login=Doors(login, Cookies(secure=False), "issuer"),
        **settings,
    )
    app.state.is_ending = lambda: True  # who listens is answered at once
    return app


@pytest.fixture(scope="module")
def told() -> list[AccessEvent]:
    return []


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, told: list[AccessEvent]) -> Iterator[TestClient]:
    app = application(tmp_path_factory.mktemp("service"), access=Access(identify, told.append))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def address(rule: Rule) -> str:
    path = rule.path
    for name, value in VALUES.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, "give the new name a value in VALUES"
    return path


def test_the_table_and_the_rules_are_the_same() -> None:
    letters = {Role.PATIENT: "p", Role.RADIOLOGIST: "r", Role.OPERATOR: "o", Role.SERVICE: "s"}
    assert len({rule.name for rule in RULES}) == len(RULES)

    ruled = {
        rule.name: "".join(letters[role] for role in Role if role in rule.roles)
        if rule.entry == "roles"
        else rule.entry.split("-", maxsplit=1)[0]
        for rule in RULES
    }

    assert ruled == TABLE


@pytest.mark.parametrize("who", EVERYONE, ids=str)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_cell_of_the_table(http: TestClient, told: list[AccessEvent], rule: Rule, who: str | None) -> None:
    may = TABLE[rule.name]
    headers = {} if who is None else {"Authorization": f"Bearer {who}"}
    told.clear()

    if rule.methods == ("WS",):
        with (
            pytest.raises(WebSocketDisconnect),
            http.websocket_connect(f"ws://127.0.0.1{address(rule)}", headers=headers),
        ):
            pytest.fail("its own proof is missing")
        until = time.monotonic() + 30
        while not told and time.monotonic() < until:  # told when the web socket's task ends
            time.sleep(0.01)
    for method in set(rule.methods) - {"WS"}:
        answer = http.request(method, address(rule), headers=headers, follow_redirects=False)

        if may == "own":
            assert answer.status_code in (401, 422), "its own proof is missing"
        elif may == "open":
            # Whoever comes in there brings nothing that could be taken.
            assert (
                answer.status_code == (403 if rule.name in ("login", "callback") else 200)
                or method == "HEAD"
                or (rule.name == "launch" and answer.status_code == 422)
            )
        elif who in NOBODY:
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        elif who[0] in may:
            assert answer.status_code not in (401, 403)
            assert answer.status_code != 405 or method == "HEAD" or rule.name in ("fhir-base", "fhir-others")
        else:
            assert answer.status_code == 403
        assert answer.headers["Cache-Control"] in ("no-store", "no-cache", "max-age=300")

    assert [event.route for event in told] == [rule.name] * len(rule.methods)
    if may not in ("own", "open"):
        assert all((event.caller is None) == (who in NOBODY) for event in told)
        assert all((event.decision is Decision.UNKNOWN) == (who in NOBODY) for event in told)


def test_every_route_has_a_rule_and_every_rule_a_route(tmp_path: Path) -> None:
    app = application(tmp_path)

    routes = set(routes_of(app))

    check_rules(app)
    assert {rule.path for rule in RULES} == {path for _, path in routes} | {"/fhir"}
    for method, path in routes:
        rule = next(each for each in RULES if each.path == path and method in each.methods)
        assert rule_for(method, address(rule)) == rule, "a line above it takes its requests"


@pytest.mark.parametrize("included", [False, True])
def test_a_route_without_a_rule_fails_the_start(tmp_path: Path, included: bool) -> None:
    router = APIRouter()
    router.get("/studies/{study_instance_uid}/new")(lambda: None)
    outer = APIRouter(prefix="/more")
    outer.include_router(router)
    where = "GET /more/studies/{study_instance_uid}/new" if included else "GET /studies/{study_instance_uid}/new"

    with pytest.raises(ValueError, match=r"no rule in plugin/access/rules\.py for") as refused:
        create_app(services(tmp_path), work=False, hook=outer if included else router)

    assert str(refused.value).endswith(f": {where}")


def test_a_rule_of_another_method_does_not_do(tmp_path: Path) -> None:
    router = APIRouter()
    router.delete("/jobs/{job_id}")(lambda: None)

    with pytest.raises(ValueError, match=r"DELETE /jobs/\{job_id\}"):
        create_app(services(tmp_path), work=False, hook=router)


def test_an_address_that_nothing_has_tells_nobody_so_without_a_login(http: TestClient) -> None:
    assert http.delete("/nowhere").status_code == 401
    assert http.delete("/nowhere", headers={"Authorization": "Bearer operator"}).status_code == 404
    assert http.get("/nowhere", headers={"Authorization": "Bearer patient"}).status_code == 404


def test_a_token_in_the_address_is_none(http: TestClient) -> None:
    assert http.get("/jobs?access_token=operator").status_code == 401


def test_below_fhir_a_refusal_is_an_operation_outcome(http: TestClient) -> None:
    unknown = http.get("/fhir/DiagnosticReport")
    forbidden = http.get("/fhir/DiagnosticReport", headers={"Authorization": "Bearer operator"})

    assert (unknown.json()["issue"][0]["code"], forbidden.json()["issue"][0]["code"]) == ("login", "forbidden")
    assert {each.json()["resourceType"] for each in (unknown, forbidden)} == {"OperationOutcome"}


def test_whoever_listens_to_decisions_takes_no_answer_away(tmp_path: Path) -> None:
    def broken(_: AccessEvent) -> None:
        raise RuntimeError("full")

    app = create_app(services(tmp_path), work=False, access=Access(identify, broken))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/jobs", headers={"Authorization": "Bearer operator"}).status_code == 200


async def _hub(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(visit_of(socket).caller.id)
    await socket.close()


@pytest.mark.parametrize(
    ("who", "proof", "headers", "status"),
    [
        (Role.RADIOLOGIST, Proof.TOKEN, {}, 101),
        (Role.PATIENT, Proof.TOKEN, {}, 403),
        (None, Proof.TOKEN, {}, 403),
        (Role.RADIOLOGIST, Proof.SESSION, {"Origin": "http://testserver"}, 101),
        (Role.RADIOLOGIST, Proof.SESSION, {"Origin": "https://evil.example"}, 403),
        (Role.RADIOLOGIST, Proof.SESSION, {}, 403),
        (Role.RADIOLOGIST, Proof.DEMO, {"Origin": "https://evil.example"}, 403),
        (Role.RADIOLOGIST, Proof.DEMO, {}, 101),
    ],
    ids=str,
)
def test_a_web_socket_is_a_route_like_any_other(
    who: Role | None, proof: Proof, headers: dict[str, str], status: int
) -> None:
    told: list[AccessEvent] = []
    caller = Caller("somebody", frozenset({who}), proof, patient="Patient/a") if who else None
    rule = Rule("hub", ("WS",), "/hub", frozenset({Role.RADIOLOGIST}))
    served = Starlette(routes=[WebSocketRoute("/hub", _hub)])
    app = Entrance(served, access=Access(lambda credentials: caller, told.append), rules=(rule,))

    with contextlib.ExitStack() as opened:
        if status == 101:
            socket = opened.enter_context(TestClient(app).websocket_connect("/hub", headers=headers))
            assert socket.receive_text() == "somebody"
        else:
            with pytest.raises(WebSocketDisconnect):
                opened.enter_context(TestClient(app).websocket_connect("/hub", headers=headers))

    assert [(event.route, event.method, event.status) for event in told] == [("hub", "WS", status)]
