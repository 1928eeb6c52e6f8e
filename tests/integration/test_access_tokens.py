"""Bearer tokens against an issuer on real sockets: what is taken, and every attack on it."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from authority import AUDIENCE, Authority, ec, rsa, run_authority
from joserfc import jws, jwt

from plugin.access.caller import Caller, Proof, Role
from plugin.access.fetching import JsonReader
from plugin.access.identification import Known
from plugin.access.issuer import PAUSE_S, STALE_S, Issuer
from plugin.access.ports import Credentials, UnknownError
from plugin.access.roles import DEFAULT_ROLES, RoleMap, role_map
from plugin.access.secrets import known_programs, new_token, program_of
from plugin.doctor import login
from plugin.errors import InputError, TransientError
from plugin.outbound import allowed, guarded_client
from plugin.settings import Settings
from plugin.wiring import make_access


@dataclass
class Door:
    """Our side: takes tokens of *authority*; its clock stands until a test moves it."""

    authority: Authority
    http: httpx.Client
    clock: float = 1000.0

    def __post_init__(self) -> None:
        reader = JsonReader(self.http, timeout_s=5)
        self.issuer = Issuer(self.authority.base, reader, clock=lambda: self.clock)
        self.known = Known((), RoleMap(role_map(DEFAULT_ROLES)), self.issuer, (AUDIENCE,))

    def caller(self, token: str) -> Caller:
        found = self.known(Credentials(bearer=token))
        assert found is not None
        return found

    def refuses(self, token: str, why: str = ".") -> bool:
        with pytest.raises(UnknownError, match=why) as refused:
            self.caller(token)
        assert len(str(refused.value)) < 100, "the token is not quoted"
        return True


@pytest.fixture
def door() -> Iterator[Door]:
    with run_authority() as authority, guarded_client(allowed((authority.base,), named="login")) as http:
        yield Door(authority, http)


def test_a_token_of_the_issuer_for_us_is_taken(door: Door) -> None:
    caller = door.caller(door.authority.token())

    assert caller.roles == {Role.RADIOLOGIST}
    assert (caller.id, caller.proof) == (f"{door.authority.base}|dr-1", Proof.TOKEN)


@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"])
def test_every_allowed_signature_is_taken(door: Door, alg: str) -> None:
    curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}.get(alg)
    key = ec(f"ec-{curve}", curve) if curve else rsa("key-1")
    door.authority.published = [key]

    assert door.caller(door.authority.token(key=key, alg=alg)).roles


def forged(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), signature])


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
def test_attack_alg_none(door: Door, alg: str) -> None:
    claims = claims_of(door.authority.token())

    assert door.refuses(forged({"alg": alg, "kid": "key-1"}, claims))
    assert door.refuses(forged({"alg": alg}, claims))


@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
def test_attack_hs256_with_the_public_rsa_key(door: Door, form: str) -> None:
    key = rsa("key-1")
    secret = {
        "jwk": json.dumps(key.as_dict(private=False)).encode(),
        "pem": key.as_pem(private=False),
        "der": key.as_der(private=False),
    }[form]
    unsigned = forged({"alg": "HS256", "kid": "key-1"}, claims_of(door.authority.token()))
    # By hand: joserfc itself refuses to sign with such a key.
    mac = hmac.digest(secret, unsigned.removesuffix(".").encode(), "sha256")

    assert door.refuses(unsigned + base64.urlsafe_b64encode(mac).decode().rstrip("="))


def test_attack_a_key_that_the_token_brings_itself(door: Door) -> None:
    own = rsa("mallory")
    claims = claims_of(door.authority.token())
    for header in (
        {"jwk": own.as_dict(private=False)},
        {"jku": "http://127.0.0.1:9/jwks"},
        {"kid": "mallory", "jwk": own.as_dict(private=False)},
    ):
        assert door.refuses(jwt.encode({"alg": "RS256", **header}, claims, own, algorithms=["RS256"]))
    assert door.refuses(door.authority.token(key=rsa("mallory")))


def test_attack_another_key_under_the_right_name(door: Door) -> None:
    forged_token = jwt.encode(
        {"alg": "RS256", "kid": "key-1"}, claims_of(door.authority.token()), rsa("mallory"), algorithms=["RS256"]
    )

    assert door.refuses(forged_token)


def test_attack_a_changed_token(door: Door) -> None:
    head, body, signature = door.authority.token().split(".")
    changed = claims_of(f".{body}.") | {"roles": ["operator"]}
    other = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")

    assert door.refuses(f"{head}.{other}.{signature}")
    assert door.refuses(f"{head}.{body}.")
    assert door.refuses(f"{head}.{body}")


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "end is not taken"),
        ({"exp": float("inf")}, "signed|end"),
        ({"exp": "tomorrow"}, "end is not taken"),
        ({"nbf": 99_999_999_999}, "beginning is not taken"),
        ({"iat": 99_999_999_999}, "time is not taken"),
        ({"aud": "https://other.example"}, "audience is not taken"),
        ({"aud": None}, "audience is not taken"),
        ({"aud": ["https://other.example", "x"]}, "audience is not taken"),
        ({"iss": "https://other.example"}, "issuer is not taken"),
        ({"iss": None}, "issuer is not taken"),
        ({"sub": None}, "subject is not taken"),
        ({"sub": ""}, "subject is not taken"),
        ({"nonce": "n"}, "ID token"),
    ],
    ids=str,
)
def test_attack_a_token_that_is_not_ours_or_not_now(door: Door, claims: dict[str, Any], why: str) -> None:
    assert door.refuses(door.authority.token(**claims), why)


def test_clocks_may_differ_by_a_minute(door: Door) -> None:
    now = int(time.time())

    assert door.caller(door.authority.token(exp=now - 30, nbf=now + 30))
    assert door.refuses(door.authority.token(exp=now - 90))


def test_one_of_several_audiences_is_enough(door: Door) -> None:
    assert door.caller(door.authority.token(aud=["https://other.example", AUDIENCE]))


@pytest.mark.parametrize("token", ["x", "a.b.c", "....", "e30.e30.e30", "ä.ö.ü", "a" * 100_000, "[" * 9_000])
def test_attack_something_that_is_no_token(door: Door, token: str) -> None:
    assert door.refuses(token)


def test_keys_are_fetched_once_for_many_tokens(door: Door) -> None:
    for _ in range(5):
        door.caller(door.authority.token())

    assert door.authority.visits == {"/.well-known/openid-configuration": 1, "/jwks": 1}


def test_a_new_key_is_found_and_the_old_one_is_gone(door: Door) -> None:
    before = door.authority.token()
    door.caller(before)
    door.authority.signs, door.authority.published = rsa("key-2"), [rsa("key-2")]
    door.clock += PAUSE_S

    assert door.caller(door.authority.token())
    assert door.refuses(before)


def test_attack_unknown_keys_cause_one_fetch_and_no_more(door: Door) -> None:
    door.caller(door.authority.token())
    door.clock += PAUSE_S
    for number in range(20):
        assert door.refuses(forged({"alg": "RS256", "kid": f"unknown-{number}"}, claims_of(door.authority.token())))

    assert door.authority.visits["/jwks"] == 2


def test_an_issuer_that_is_away_is_not_asked_by_every_request_and_its_keys_hold_for_a_day(door: Door) -> None:
    token = door.authority.token()
    door.caller(token)
    door.authority.broken = True
    door.clock += 3600
    for _ in range(5):
        assert door.caller(token)
    tries = door.authority.visits["/.well-known/openid-configuration"]
    door.clock += STALE_S

    with pytest.raises(TransientError):
        door.caller(token)
    assert tries <= 4  # one fetch, which tries again while it is answered 500


def test_an_issuer_that_was_never_reached_is_no_reason_to_let_anybody_in(door: Door) -> None:
    door.authority.broken = True

    with pytest.raises(TransientError):
        door.caller(door.authority.token())


@pytest.mark.parametrize(
    "says", [{"issuer": "https://mallory.example"}, {"jwks_uri": "http://mallory.example/jwks"}, {"jwks_uri": None}]
)
def test_attack_a_configuration_that_leads_elsewhere(door: Door, says: dict[str, Any]) -> None:
    door.authority.says = says

    with pytest.raises(TransientError):
        door.caller(door.authority.token())


def test_a_key_for_encryption_or_of_another_algorithm_proves_nothing(door: Door) -> None:
    token = door.authority.token()
    for change in ({"use": "enc"}, {"alg": "RS512"}):
        key = type(rsa("key-1")).import_key(rsa("key-1").as_dict(private=False) | change)
        door.authority.published = [key]
        door.clock += 700

        assert door.refuses(token)


WEIRD = (
    None,
    True,
    0,
    -1,
    1e308,
    float("inf"),
    "",
    "x",
    [],
    {},
    [[]],
    {"a": {}},
    10**400,
    ["a", 1],
    "none",
    "HS256",
    "ES256",
)


def hostile(door: Door, rng: random.Random) -> str:
    """A token with other bytes, a header or claims that cannot be, or a signed payload that is none."""
    good = door.authority.token()
    _, body, signature = good.split(".")
    match rng.randrange(4):
        case 0:
            changed = bytearray(good.encode())
            for _ in range(rng.randrange(1, 6)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            return changed.decode("latin-1")
        case 1:
            name = rng.choice(["alg", "kid", "crit", "typ", "b64", "jwk", "zip", "enc", "cty"])
            unsigned = forged({"alg": "RS256", "kid": "key-1", name: rng.choice(WEIRD)}, {})
            return f"{unsigned.split('.')[0]}.{body}.{signature}"
        case 2:
            names = ["iss", "sub", "aud", "exp", "nbf", "iat", "roles", "scope", "scp", "patient", "fhirUser"]
            payload = json.dumps(claims_of(good) | {rng.choice(names): rng.choice(WEIRD) for _ in range(3)}).encode()
        case _:
            deep = b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"
            payload = rng.choice([b"[]", b"null", b"\xff\xfe", b"{", b"{" * 5000, b'{"exp":1e999}', deep, b'"x"'])
    return jws.serialize_compact({"alg": "RS256", "kid": "key-1"}, payload, rsa("key-1"), algorithms=["RS256"])


def test_attack_any_token_is_taken_or_refused_and_nothing_else_happens(door: Door) -> None:
    """10,000 of seed 1 were, on one fetch of keys."""
    rng = random.Random(1)
    for _ in range(int(os.environ.get("SIGHTLINE_FUZZ_TOKENS", "300"))):
        with contextlib.suppress(UnknownError):
            assert door.caller(hostile(door, rng)).id.startswith(door.authority.base)

    assert door.authority.visits["/jwks"] == 1


# Who a token makes somebody


@pytest.mark.parametrize(
    ("claims", "roles", "patient"),
    [
        ({"roles": ["operator", "unknown"]}, (Role.OPERATOR,), ""),
        ({"roles": "radiologist operator"}, (Role.RADIOLOGIST, Role.OPERATOR), ""),
        ({"roles": None}, (), ""),
        ({"roles": {"radiologist": True}}, (Role.RADIOLOGIST,), ""),
        ({"roles": None, "fhirUser": "Practitioner/7"}, (Role.RADIOLOGIST,), ""),
        ({"roles": None, "fhirUser": "http://fhir.example/r4/Patient/p1"}, (Role.PATIENT,), "Patient/p1"),
        ({"roles": None, "fhirUser": "http://other.example/r4/Patient/p1"}, (), ""),
        ({"roles": None, "fhirUser": "Patient/p1", "patient": "p2"}, (Role.PATIENT,), "Patient/p1"),
        (
            {"roles": None, "fhirUser": "RelatedPerson/m", "patient": "p2", "scope": "patient/Observation.rs"},
            (Role.PATIENT,),
            "Patient/p2",
        ),
        (
            {"roles": None, "patient": "p1", "scope": "launch/patient patient/Observation.rs"},
            (Role.PATIENT,),
            "Patient/p1",
        ),
        ({"roles": None, "patient": "p1"}, (), "Patient/p1"),
        ({"roles": None, "patient": "../p1"}, (), ""),
        ({"roles": None, "patient": ["p1"]}, (), ""),
        ({"roles": None, "scope": "system/DiagnosticReport.rs"}, (Role.SERVICE,), ""),
        ({"roles": None, "scope": "openid system"}, (), ""),
    ],
    ids=str,
)
def test_claims_make_a_caller(claims: dict[str, Any], roles: tuple[Role, ...], patient: str) -> None:
    told = RoleMap(role_map(DEFAULT_ROLES), fhir_urls=("http://fhir.example/r4/",))

    caller = told.caller({"iss": "i", "sub": "s", **claims}, proof=Proof.TOKEN)

    assert (caller.roles, caller.patient) == (set(roles), patient)


def test_a_caller_knows_when_the_token_ends_and_a_session_outlasts_it() -> None:
    roles, claims = RoleMap(role_map(DEFAULT_ROLES)), {"iss": "i", "sub": "s", "exp": 1_900_000_000}

    assert roles.caller(claims, proof=Proof.TOKEN).ends == 1_900_000_000
    assert roles.caller(claims, proof=Proof.SESSION).ends is None


def test_a_site_says_where_its_roles_stand_and_what_they_mean() -> None:
    keycloak = RoleMap(role_map("rad-staff=radiologist, IT=operator"), role_claim="realm_access.roles")
    dotted = RoleMap(role_map("rad-staff=radiologist"), role_claim="https://site.example/roles")
    claims = {"iss": "i", "sub": "s"}

    assert keycloak.caller(
        claims | {"realm_access": {"roles": ["rad-staff", "IT", "radiologist"]}}, proof=Proof.TOKEN
    ).roles == {Role.RADIOLOGIST, Role.OPERATOR}
    assert dotted.caller(claims | {"https://site.example/roles": ["rad-staff"]}, proof=Proof.TOKEN).roles


@pytest.mark.parametrize("text", ["radiologist", "=operator", "x=king", "a=patient,b"])
def test_a_map_of_roles_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="value=role"):
        role_map(text)


# Programs


def test_a_program_comes_in_by_its_own_token_alone() -> None:
    token, line = new_token("orthanc", Role.SERVICE)
    other, _ = new_token("orthanc", Role.SERVICE)
    known = known_programs(f"# programs\n\n{line}\n")
    caller = program_of(token, known)

    assert caller == Caller("program|orthanc", frozenset({Role.SERVICE}), Proof.SECRET)
    assert token not in line
    assert token not in repr(known)
    assert [program_of(each, known) for each in (other, token[:-1], f"{token} ", "", line.split()[-1])] == [None] * 5


@pytest.mark.parametrize(
    "text", ["orthanc service abc", f"orthanc patient {'0' * 64}", f"a service {'0' * 64}\na service {'1' * 64}", "x"]
)
def test_a_file_of_programs_that_cannot_be_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|twice") as refused:
        known_programs(text)
    assert "0000" not in str(refused.value)


def test_a_program_and_a_person_come_through_one_entrance(door: Door) -> None:
    token, line = new_token("prometheus", Role.OPERATOR)
    known = Known(known_programs(line), RoleMap(role_map(DEFAULT_ROLES)), door.issuer, (AUDIENCE,))

    found = [known(Credentials(bearer=each)) for each in (token, door.authority.token(), "")]

    assert [each and each.proof for each in found] == [Proof.SECRET, Proof.TOKEN, None]
    with pytest.raises(UnknownError):
        known(Credentials(bearer=f"{token[:-1]}x"))


# What starts


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "192.0.2.7"},
        {"public_url": "https://sightline.example"},
        {"allowed_hosts": "sightline"},
        {"allowed_hosts": "*"},
        {"hook_url": "http://sightline:8042"},
    ],
    ids=str,
)
def test_nothing_starts_without_a_login_where_others_reach_it(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="set SIGHTLINE_LOGIN_ISSUER"):
        make_access(Settings(**settings))


def test_on_loopback_it_starts_in_demo_mode_and_with_a_login_anywhere() -> None:
    _, line = new_token("orthanc", Role.SERVICE)
    make_access(Settings())
    make_access(Settings(public_url="http://127.0.0.1:8042", allowed_hosts="localhost"))
    make_access(Settings(host="0.0.0.0", service_tokens=line))
    make_access(Settings(host="0.0.0.0", login_issuer="https://login.example", login_audience=AUDIENCE))


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("archive_password", "orthanc"),
        ("archive_password", "abc"),
        ("fhir_password", "Password1!"),
        ("event_secret", "changeme-changeme"),
        ("hook_secret", "abababababababababab"),
        ("archive_token", "default-token"),
    ],
)
def test_nothing_starts_with_a_secret_that_can_be_guessed(name: str, secret: str) -> None:
    _, line = new_token("orthanc", Role.SERVICE)
    wrong = Settings(host="0.0.0.0", service_tokens=line, **{name: secret})

    with pytest.raises(InputError, match=f"SIGHTLINE_{name.upper()} can be guessed") as refused:
        make_access(wrong)
    assert secret not in str(refused.value)
    make_access(Settings(host="0.0.0.0", service_tokens=line, **{name: "8f1c9a6f0d3b4e2a7755c1e09b6d"}))


@pytest.mark.parametrize(
    "settings",
    [
        {"login_issuer": "http://login.example", "login_audience": AUDIENCE},
        {"login_issuer": "login.example", "login_audience": AUDIENCE},
        {"login_issuer": "https://login.example"},
        {"service_tokens": "orthanc"},
        {"login_roles": "x=king"},
    ],
    ids=str,
)
def test_a_login_that_could_not_be_safe_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs|line 1"):
        Settings(**settings)


def test_the_doctor_says_who_has_to_log_in_and_where(door: Door) -> None:
    _, line = new_token("orthanc", Role.SERVICE)
    there = Settings(login_issuer=door.authority.base, login_audience=AUDIENCE)

    assert "demo mode" in login(Settings()).detail
    assert login(Settings(host="0.0.0.0", service_tokens=line)).detail == "of programs alone"
    assert "SIGHTLINE_LOGIN_ISSUER" in login(Settings(host="0.0.0.0")).mend
    assert login(there).detail == "1 to log in at, answering"
    door.authority.broken = True
    assert "SIGHTLINE_LOGIN_ISSUER" in login(there).mend
