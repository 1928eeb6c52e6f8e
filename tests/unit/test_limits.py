"""How much one client may ask, and who counts as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from memory import Site
from starlette.datastructures import MutableHeaders

from plugin.access.caller import Caller, Proof, Role
from plugin.access.limits import Limits, client_at
from plugin.access.ports import Credentials
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.app import serve
from plugin.service.entrance import Access
from plugin.service.guard import Shield
from plugin.settings import Settings
from plugin.wiring import make_access, make_shield


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_client_may_come_often_at_first_and_evenly_after_that() -> None:
    clock = Clock()
    limits = Limits(per_minute=60, at_once=1000, clock=clock)
    first = [limits.enter("a") for _ in range(31)]
    clock.now += 2

    then = [limits.enter("a") for _ in range(3)]

    assert first == [0] * 30 + [1]
    assert then == [0, 0, 1]
    assert limits.enter("b") == 0


def test_the_wait_that_is_told_is_long_enough_and_waiting_is_no_reason_for_more() -> None:
    clock = Clock()
    limits = Limits(per_minute=2, at_once=9, clock=clock)
    assert [limits.enter("a") for _ in range(3)] == [0, 30, 30]

    clock.now += 29
    assert limits.enter("a") == 1
    clock.now += 1
    assert limits.enter("a") == 0


def test_only_so_many_requests_of_a_client_are_worked_on_at_once() -> None:
    limits = Limits(at_once=2, clock=Clock())
    assert [limits.enter("a") for _ in range(3)] == [0, 0, 1]
    assert limits.enter("b") == 0

    limits.leave("a")

    assert limits.enter("a") == 0


def test_attack_a_million_clients_fill_no_memory() -> None:
    limits = Limits(clock=Clock(), most_clients=100)
    for number in range(2000):
        limits.enter(f"client-{number}")
        limits.leave(f"client-{number}")

    assert len(limits._buckets) == 100
    assert not limits._working


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_a_holder_of_many_addresses_is_one_client(address: str, client: str) -> None:
    assert client_at(address) == client


def identify(credentials: Credentials) -> Caller | None:
    if not credentials.bearer:
        return None
    return Caller(credentials.bearer, frozenset({Role.OPERATOR}), Proof.TOKEN)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    site, unused = Site(tmp_path / "site"), None
    return Services(site.queue, ResultFolder(tmp_path), (), site.intake, *[unused] * 3)  # type: ignore[arg-type]


@pytest.fixture
def http(services: Services) -> Iterator[TestClient]:
    app = create_app(services, work=False, access=Access(identify, limits=Limits(per_minute=8, clock=Clock())))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def asked(http: TestClient, path: str, bearer: str = "") -> list[int]:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return [http.get(path, headers=headers).status_code for _ in range(6)]


def test_too_many_requests_are_refused_with_the_time_to_wait(http: TestClient) -> None:
    assert asked(http, "/jobs", "anna") == [200] * 4 + [429] * 2
    assert asked(http, "/jobs", "ben") == [200] * 4 + [429] * 2, "counted for themselves"
    assert asked(http, "/jobs") == [401] * 4 + [429] * 2, "by address"
    answer = http.get("/jobs", headers={"Authorization": "Bearer anna"})
    assert answer.headers["Retry-After"] == "8"
    assert answer.headers["content-type"] == "application/problem+json"


def test_health_is_always_answered(http: TestClient) -> None:
    assert asked(http, "/jobs")[-1] == 429
    assert asked(http, "/health/live") == [200] * 6


def test_below_fhir_it_is_an_operation_outcome(http: TestClient) -> None:
    asked(http, "/fhir/x", "anna")

    issue = http.get("/fhir/x", headers={"Authorization": "Bearer anna"}).json()["issue"][0]

    assert issue["code"] == "throttled"


def test_a_service_with_a_login_has_limits_and_the_demo_has_none() -> None:
    settings = Settings(login_issuer="https://login.example", login_audience="x", requests_per_minute=7)

    limits = make_access(settings).limits

    assert limits is not None
    assert limits.per_minute == 7
    assert make_access(Settings()).limits is None


# Proxies


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client"),
    [
        (("testclient",), "192.0.2.1, 192.0.2.7", "192.0.2.7"),
        (("testclient", "192.0.2.0/24"), "198.51.100.9, 192.0.2.7", "198.51.100.9"),
        ((), "192.0.2.7", "testclient"),
        (("10.0.0.1",), "192.0.2.7", "testclient"),
    ],
)
def test_only_named_proxies_tell_who_asks(
    services: Services, monkeypatch: pytest.MonkeyPatch, proxies: tuple[str, ...], forwarded: str, client: str
) -> None:
    told: list[str] = []
    app = create_app(services, work=False, access=Access(identify, lambda event: told.append(event.address)))
    served: list[Any] = []
    monkeypatch.setattr("uvicorn.Server.run", lambda server, **_: served.append(server.config))
    serve(app, host="127.0.0.1", port=0, tell=lambda _: None, proxies=proxies)
    served[0].load()

    with TestClient(served[0].loaded_app, base_url="http://127.0.0.1") as http:
        http.get("/jobs", headers={"X-Forwarded-For": forwarded, "X-Forwarded-Host": "evil.example"})

    assert told == [client]


def test_networks_of_proxies_that_are_none_are_refused() -> None:
    assert Settings(trusted_proxies="10.0.0.1, 192.168.0.0/16").trusted_proxies
    with pytest.raises(ValueError, match="trusted_proxies"):
        Settings(trusted_proxies="*")


def test_attack_a_proxy_that_passes_others_on_to_a_service_without_login(services: Services) -> None:
    with TestClient(create_app(services, work=False), base_url="http://127.0.0.1") as http:
        for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Proto"):
            answer = http.get("/jobs", headers={name: "192.0.2.7"})
            assert answer.status_code == 403
            assert "SIGHTLINE_LOGIN_ISSUER" in answer.json()["detail"]
        assert http.get("/jobs").status_code == 200


def test_attack_a_web_page_sends_jobs_to_the_demo_on_this_machine(services: Services) -> None:
    with TestClient(create_app(services, work=False), base_url="http://127.0.0.1") as http:
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            assert http.post("/studies", json={"study_instance_uid": "1.1"}, headers=headers).status_code == 403
        assert http.post("/studies", json={"study_instance_uid": "x"}).status_code == 422, "a program"


# What browsers are told


def completed(shield: Shield, **headers: str) -> MutableHeaders:
    made = MutableHeaders({name.replace("_", "-"): value for name, value in headers.items()})
    shield.complete(made)
    return made


def test_every_answer_keeps_to_itself() -> None:
    headers = completed(Shield(), content_type="application/json")

    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "strict-transport-security" not in headers


def test_behind_tls_browsers_come_by_tls_alone() -> None:
    shield = make_shield(Settings(public_url="https://sightline.example"))

    assert completed(shield)["strict-transport-security"] == "max-age=31536000"
    assert not make_shield(Settings(public_url="http://127.0.0.1:8042")).tls


@pytest.mark.parametrize(
    "policy",
    [
        "default-src 'self'",
        "default-src 'self'; frame-ancestors 'none'",
        "frame-ancestors *; default-src 'self'",
        "default-src 'self'; FRAME-ANCESTORS https://evil.example;",
    ],
)
def test_only_named_portals_frame_pages_whatever_a_route_says(policy: str) -> None:
    shield = make_shield(Settings(frame_ancestors="https://portal.example/app, https://other.example:8443"))
    framed = completed(shield, content_type="text/html", content_security_policy=policy)

    assert framed["content-security-policy"] == (
        "default-src 'self'; frame-ancestors 'self' https://portal.example https://other.example:8443"
    )


@pytest.mark.parametrize("portal", ["*", "https://*.example", "http://portal.example", "portal.example", "'self'"])
def test_a_list_of_portals_that_is_not_strict_is_refused(portal: str) -> None:
    with pytest.raises(ValueError, match="https addresses"):
        Settings(frame_ancestors=portal)
