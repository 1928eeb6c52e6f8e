"""Logging in with a browser: OpenID Connect and SMART launches at a server on real sockets, and attacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from authority import CLIENT, ec, rsa, run_authority
from charts import Chart
from joserfc.jwk import ECKey
from places import ALICE, BOB, DRAFT, OURS, PAGE, PATIENT_SCOPE, Place, run_place

from plugin.access.caller import Role
from plugin.access.events import Decision
from plugin.access.login import local_address
from plugin.access.sessions import Sessions
from plugin.fhir.keys import make_key
from plugin.page.release import Rules


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with run_place(tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture
def place(standing: Place) -> Place:
    """One service for the tests of this file; the server it logs people in at has its usual habits again."""
    standing.authority.__init__(standing.authority.base)  # type: ignore[misc]
    standing.told.clear()
    return standing


@pytest.fixture
def own_place(tmp_path: Path) -> Iterator[Place]:
    """A service for one test alone, which changes what is kept there or what it knows of the login."""
    with run_place(tmp_path) as place:
        yield place


def refused(answer: httpx.Response, status: int = 403) -> bool:
    """Whether nobody was let in; the answer has no session."""
    assert not any("sightline-session=" in each for each in answer.headers.get_list("set-cookie"))
    return answer.status_code == status


# Logging in


def test_a_radiologist_logs_in_and_comes_to_the_page_that_was_wanted(place: Place) -> None:
    browser, wanted = place.browser(), f"/studies/{BOB.uid}/page?phrase=1"
    first = browser.get(wanted, headers=PAGE)
    assert (first.status_code, first.headers["Location"].partition("?")[0]) == (303, "/login")

    answer = browser.get(place.granted(browser, first.headers["Location"]), headers=PAGE)

    assert answer.headers["Refresh"] == f"0;url={wanted}"
    assert browser.get(wanted, headers=PAGE).status_code == 200
    assert browser.get("/jobs").status_code == 200
    assert [event.decision for event in place.told if event.route == "callback"] == [Decision.LOGIN]
    assert next(e for e in place.told if e.decision is Decision.LOGIN).caller.roles == {Role.RADIOLOGIST}  # type: ignore[union-attr]


def test_programs_are_not_sent_to_the_login(place: Place) -> None:
    browser = place.browser()

    assert browser.get("/jobs").status_code == 401
    assert browser.get("/jobs", headers=PAGE | {"Sec-Fetch-Mode": "cors"}).status_code == 401
    assert browser.post("/studies", headers=PAGE).status_code == 401


def test_the_provider_is_asked_by_code_with_pkce_state_and_nonce(place: Place) -> None:
    browser = place.browser()
    asked = [dict(parse_qsl(urlsplit(place.to_provider(browser, "/login")).query)) for _ in range(2)]

    for query in asked:
        assert query["response_type"] == "code"
        assert query["redirect_uri"] == f"{OURS}/callback"
        assert query["code_challenge_method"] == "S256"
        assert query["scope"].split()[0] == "openid"
        assert min(len(query[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert all(asked[0][name] != asked[1][name] for name in ("state", "nonce", "code_challenge"))


@pytest.mark.parametrize("launch", ["", "&launch=xyz"])
def test_a_patient_is_launched_and_sees_what_is_theirs(place: Place, launch: str) -> None:
    place.authority.user = {"sub": "1", "fhirUser": f"{place.authority.fhir}/Patient/alice"}
    place.authority.grants, place.authority.context = PATIENT_SCOPE, {"patient": "alice"}
    browser = place.log_in(f"/launch?iss={place.authority.fhir}{launch}")

    (asked,) = place.authority.asked
    assert asked["aud"] == place.authority.fhir
    assert asked.get("launch", "") == launch.removeprefix("&launch=")
    assert asked["scope"].split()[0] == ("launch" if launch else "launch/patient")
    chart = browser.get("/chart", headers=PAGE)
    assert chart.headers["Location"] == f"/studies/{ALICE.uid}/patient"
    assert browser.get(chart.headers["Location"], follow_redirects=True).status_code == 200


def test_a_launch_with_a_study_opens_it(place: Place) -> None:
    place.authority.user = {"sub": "1", "fhirUser": "Practitioner/7"}
    named = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{BOB.uid}"}}
    place.authority.context = {"patient": "bob", "fhirContext": [{"reference": "ImagingStudy/9"}, named]}
    browser = place.browser()

    answer = browser.get(place.granted(browser, f"/launch?iss={place.authority.fhir}&launch=x"), headers=PAGE)

    assert answer.headers["Refresh"] == f"0;url=/studies/{BOB.uid}/radiologist"


def test_a_radiologist_whose_launch_is_for_one_patient_sees_that_one_with_drafts(place: Place) -> None:
    place.authority.user = {"sub": "1", "fhirUser": "Practitioner/7"}
    place.authority.grants, place.authority.context = PATIENT_SCOPE, {"patient": "alice"}
    browser = place.log_in(f"/launch?iss={place.authority.fhir}&launch=x")

    statuses = [browser.get(f"/studies/{each.uid}/evidence").status_code for each in (ALICE, DRAFT, BOB)]

    assert statuses == [200, 200, 404]


def test_a_site_without_a_secret_proves_itself_by_its_key(tmp_path: Path) -> None:
    made = make_key(tmp_path / "key.pem", "ec")
    with run_place(tmp_path, key=tmp_path / "key.pem") as place:
        place.authority.says = {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}
        place.authority.client_key = ECKey.import_key(made.public())

        assert place.log_in().get("/jobs").status_code == 200
        place.authority.client_key = ec("another", "P-384")
        browser = place.browser()
        assert refused(browser.get(place.granted(browser, "/login")))


def test_the_session_ends_by_logout_by_idleness_and_for_good(place: Place, tmp_path: Path) -> None:
    browser = place.log_in()
    kept = browser.cookies["__Host-sightline-session"]
    assert browser.get("/logout").status_code == 200
    answer = browser.post("/logout", headers={"Origin": OURS})
    assert (answer.status_code, browser.get("/jobs").status_code) == (200, 401)
    browser.cookies.set("__Host-sightline-session", kept, domain="sightline.example")
    assert browser.get("/jobs").status_code == 401, "a cookie that somebody kept"

    clock = [1000.0]
    sessions = Sessions(tmp_path / "s.sqlite", idle_s=100, longest_s=250, now=lambda: clock[0])
    caller = next(event.caller for event in place.told if event.decision is Decision.LOGIN)
    assert caller is not None
    word = sessions.open(caller)
    seen = []
    for at in (1090.0, 1180.0, 1249.0, 1250.0):
        clock[0] = at
        seen.append(sessions.caller(word))
    assert seen == [caller, caller, caller, None]
    other, clock[0] = sessions.open(caller), 1400.0
    assert sessions.caller(other) is None


def test_the_cookie_is_for_us_alone_and_no_script(place: Place) -> None:
    browser = place.browser()
    answer = browser.get(place.granted(browser, "/login"), headers=PAGE)
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if "session=" in each]

    assert cookie.startswith("__Host-sightline-session=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie


def test_what_is_kept_of_a_session_lets_nobody_in(own_place: Place, tmp_path: Path) -> None:
    browser = own_place.log_in()
    word = browser.cookies["__Host-sightline-session"]
    content = (tmp_path / "sessions.sqlite").read_bytes()

    assert word.encode() not in content
    assert b"opaque" not in content
    assert (tmp_path / "sessions.sqlite").stat().st_mode & 0o077 == 0


# Attacks on the login


def test_attack_wrong_state(place: Place) -> None:
    browser = place.browser()
    code = dict(parse_qsl(urlsplit(place.granted(browser, "/login")).query))["code"]

    assert refused(browser.get("/callback", params={"code": code, "state": "guessed"}))
    assert refused(browser.get("/callback", params={"code": code}))
    assert refused(browser.get("/callback"))


def test_attack_replayed_answer(place: Place) -> None:
    browser = place.browser()
    back = place.granted(browser, "/login")
    cookies = dict(browser.cookies)
    assert browser.get(back).status_code == 200
    other = place.browser()
    other.cookies.update(cookies)

    assert refused(other.get(back))


def test_attack_replayed_code_in_another_login(place: Place) -> None:
    browser = place.log_in()
    used = place.authority.asked[-1]
    place.authority.codes["again"] = used
    other = place.browser()
    state = dict(parse_qsl(urlsplit(place.granted(other, "/login")).query))["state"]

    assert refused(other.get("/callback", params={"code": "again", "state": state})), "its verifier is another"
    assert browser.get("/jobs").status_code == 200


def test_attack_somebody_elses_login_is_planted_in_a_browser(place: Place) -> None:
    mallory, victim = place.browser(), place.browser()
    back = place.granted(mallory, "/login")
    place.to_provider(victim, "/login")

    assert refused(victim.get(back))


def test_attack_session_fixation(place: Place) -> None:
    planted = place.log_in().cookies["__Host-sightline-session"]
    victim = place.browser()
    victim.cookies.set("__Host-sightline-session", planted, domain="sightline.example")

    place.log_in(browser=victim)

    assert victim.cookies["__Host-sightline-session"] != planted
    mallory = place.browser()
    mallory.cookies.set("__Host-sightline-session", planted, domain="sightline.example")
    assert mallory.get("/jobs").status_code == 401


def test_attack_launch_from_a_server_that_is_not_ours(place: Place) -> None:
    with run_authority() as mallory:
        for iss in (mallory.fhir, f"{place.authority.fhir}x", f"{place.authority.fhir}@evil", "", "file:///etc"):
            assert refused(place.browser().get("/launch", params={"iss": iss, "launch": "x"}))
        assert not mallory.visits


def test_attack_mix_up(place: Place) -> None:
    """The answer names another server than the one that was asked."""
    browser = place.browser()
    told = dict(parse_qsl(urlsplit(place.granted(browser, "/login")).query))

    assert refused(browser.get("/callback", params=told | {"iss": "https://mallory.example"}))


def test_attack_mix_up_at_a_server_that_names_itself(own_place: Place) -> None:
    own_place.authority.names_itself = True
    browser = own_place.browser()
    told = dict(parse_qsl(urlsplit(own_place.granted(browser, "/login")).query))
    assert told.pop("iss") == own_place.authority.base

    assert refused(browser.get("/callback", params=told)), "without its name"
    assert own_place.log_in().get("/jobs").status_code == 200


@pytest.mark.parametrize(
    "spoils",
    [
        {"iss": "https://mallory.example"},
        {"aud": "another-client"},
        {"aud": [CLIENT, "another-client"]},
        {"aud": [CLIENT, "another-client"], "azp": "another-client"},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": "näher"},
        {"exp": 1},
        {"sub": None},
    ],
    ids=str,
)
def test_attack_an_id_token_of_another_login(place: Place, spoils: dict[str, Any]) -> None:
    place.authority.spoils = spoils
    browser = place.browser()

    assert refused(browser.get(place.granted(browser, "/login")))


def test_attack_an_id_token_signed_by_another_key(place: Place) -> None:
    place.authority.signs = rsa("mallory")
    browser = place.browser()

    assert refused(browser.get(place.granted(browser, "/login")))


@pytest.mark.parametrize("answers", [{"id_token": None}, {"id_token": "eyJhbGciOiJub25lIn0.e30."}, {"id_token": 7}])
def test_attack_an_answer_without_a_proven_person(place: Place, answers: dict[str, Any]) -> None:
    place.authority.answers = answers
    browser = place.browser()

    assert refused(browser.get(place.granted(browser, "/login")))


def test_somebody_without_a_role_is_not_let_in(place: Place) -> None:
    place.authority.user = {"sub": "guest", "roles": ["visitor"]}
    browser = place.browser()

    answer = browser.get(place.granted(browser, "/login"))

    assert refused(answer)
    assert "SIGHTLINE_LOGIN_ROLES" in answer.text


def test_a_launch_that_grants_nothing_lets_nobody_in(place: Place) -> None:
    place.authority.user, place.authority.grants = {"sub": "1", "fhirUser": "Practitioner/7"}, "openid fhirUser"
    browser = place.browser()

    assert refused(browser.get(place.granted(browser, f"/launch?iss={place.authority.fhir}")))


def test_a_patient_of_another_server_is_nobody(place: Place) -> None:
    place.authority.user = {"sub": "1", "fhirUser": "https://other.example/fhir/Patient/alice"}
    place.authority.grants = PATIENT_SCOPE
    browser = place.browser()

    assert refused(browser.get(place.granted(browser, f"/launch?iss={place.authority.fhir}")))


def test_a_refusal_of_the_provider_is_not_repeated(place: Place) -> None:
    browser = place.browser()
    state = dict(parse_qsl(urlsplit(place.to_provider(browser, "/login")).query))["state"]

    answer = browser.get("/callback", params={"error": "<script>", "error_description": "<b>x", "state": state})

    assert refused(answer)
    assert "<script>" not in answer.text
    assert "<b>x" not in answer.text


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/a\r\nSet-Cookie: x=1",
        "javascript:alert(1)",
        "\t//e",
    ],
)
def test_attack_redirect_to_another_origin(place: Place, to: str) -> None:
    assert local_address(to) == ""
    browser = place.browser()
    back = place.to_provider(browser, f"/login?{httpx.QueryParams({'to': to})}")

    answer = browser.get(httpx.get(back).headers["Location"].removeprefix(OURS))

    assert answer.headers["Refresh"] == "0;url=/"


def test_attack_a_token_in_the_address(place: Place) -> None:
    token = place.authority.token(aud=OURS)

    assert place.browser().get(f"/jobs?access_token={token}").status_code == 401
    assert place.browser().get("/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_the_login_server_being_away_is_said_and_lets_nobody_in(own_place: Place) -> None:
    own_place.authority.broken = True

    answer = own_place.browser().get("/login")

    assert refused(answer, 503)
    assert "Retry-After" in answer.headers


# Other sites


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": OURS}, 422),
        ({"Sec-Fetch-Site": "same-origin"}, 422),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 422),
        ({}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"{OURS}.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": OURS}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
    ],
    ids=str,
)
def test_attack_csrf(place: Place, headers: dict[str, str], status: int) -> None:
    browser = place.log_in()

    assert browser.post("/studies", json={"study_instance_uid": "x"}, headers=headers).status_code == status


def test_a_bearer_token_needs_no_origin(place: Place) -> None:
    headers = {"Authorization": f"Bearer {place.authority.token(aud=OURS)}"}

    assert place.browser().post("/studies", json={"study_instance_uid": "x"}, headers=headers).status_code == 422


def test_attack_another_site_loads_what_is_here_to_tell_whether_it_is_there(place: Place) -> None:
    browser = place.log_in()
    for mode in ("no-cors", "cors"):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": "image"}
        assert browser.get(f"/studies/{BOB.uid}/evidence", headers=headers).status_code == 403
    assert (
        browser.get("/jobs", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200
    )


# Whose data


def addresses(chart: Chart) -> dict[str, str]:
    study = f"/studies/{chart.uid}"
    report = f"{study}/reports/{chart.report_id}"
    return {
        "page": f"{study}/page",
        "report page": f"{report}/page",
        "patient's page": f"{report}/patient",
        "image": f"{report}/patient/images/{chart.image}",
        "series": f"{study}/series",
        "FHIR report": f"/fhir/DiagnosticReport/{chart.resource('DiagnosticReport')}",
        "FHIR page": f"/fhir/Binary/{chart.resource('DiagnosticReport')}",
        "FHIR observation": f"/fhir/Observation/{chart.resource('Observation')}",
        "FHIR selection": f"/fhir/ImagingSelection/{chart.resource('ImagingSelection')}",
    }


def test_attack_a_patient_asks_for_what_is_another_patients(place: Place) -> None:
    alice = place.as_patient("alice")
    nobodys = addresses(Chart("nobody"))
    place.told.clear()

    for what, address in addresses(BOB).items():
        answer, missing = alice.get(address), alice.get(nobodys[what])
        assert answer.status_code == 404, what
        assert (missing.status_code, missing.content) == (404, answer.content), f"{what}: tells that it is there"
    for what, address in addresses(ALICE).items():
        assert alice.get(address).status_code == 200, what
    told = [event for event in place.told if event.decision is Decision.MISSING and event.patients]
    assert {(event.patients, event.study) for event in told} == {(("Patient/bob",), BOB.uid)}
    assert len(told) == len(nobodys)


def test_attack_a_patient_asks_for_another_patients_images_or_lists(place: Place) -> None:
    alice = place.as_patient("alice")
    root = "/dicom-web/studies"
    ours = f"{root}/{ALICE.uid}"

    assert alice.get(f"{ours}/series").status_code == 503, "theirs: the archive is away"
    for path in (
        f"{root}/{BOB.uid}/metadata",
        f"{root}/{BOB.uid}/series/1.2/instances/1.3/frames/1",
        f"{root}/{DRAFT.uid}/metadata",
        f"{root}/1.2.3/metadata",
        f"{root}?StudyInstanceUID={BOB.uid}",
        f"{root}?StudyInstanceUID={ALICE.uid},{BOB.uid}",
        f"{root}?StudyInstanceUID={ALICE.uid}%5C{BOB.uid}",
        f"{root}?StudyInstanceUID={ALICE.uid}&StudyInstanceUID={BOB.uid}",
        f"{root}?StudyInstanceUID={ALICE.uid}&0020000D={BOB.uid}",
        f"{ours}/series?StudyInstanceUID={BOB.uid}",
    ):
        assert alice.get(path).status_code in (403, 404), path
    for path in (f"{root}?PatientID=MRN-bob", f"{root}?PatientID=MRN-alice", "/jobs", "/review", "/", "/metrics"):
        assert alice.get(path).status_code == 403, path


def test_attack_a_patient_searches_for_other_patients(place: Place) -> None:
    alice = place.as_patient("alice")

    for query in ("", "?patient=bob", "?patient.identifier=urn:oid:1.2.3|MRN-bob", f"?identifier={BOB.uid}"):
        for kind in ("DiagnosticReport", "ImagingSelection"):
            bundle = alice.get(f"/fhir/{kind}{query}").json()
            assert "bob" not in json.dumps(bundle).replace("patient=bob", "").replace("MRN-bob", "")
            subjects = {each["resource"]["subject"]["reference"] for each in bundle.get("entry", [])}
            assert subjects <= {"Patient/alice"}
    assert alice.get("/fhir/DiagnosticReport").json()["total"] == 1, "not the draft either"


def test_a_draft_is_withheld_from_its_patient(place: Place) -> None:
    alice = place.as_patient("alice")

    statuses = {what: alice.get(address).status_code for what, address in addresses(DRAFT).items()}

    pages = {"page", "report page", "patient's page", "image"}
    assert {what: status for what, status in statuses.items() if status != 404} == dict.fromkeys(pages, 403)
    shown = [alice.get(addresses(DRAFT)[page]).text for page in sorted(pages)]
    assert not any("effusion" in text for text in shown), "that it is withheld, and nothing more"


def test_what_the_rules_of_release_withhold_is_withheld_everywhere_from_its_patient_alone(tmp_path: Path) -> None:
    with run_place(tmp_path, release=Rules(delay_h=1e6)) as place:
        alice = place.as_patient("alice")
        statuses = {what: alice.get(address).status_code for what, address in addresses(ALICE).items()}
        found = [alice.get(f"/fhir/{kind}").json()["total"] for kind in ("DiagnosticReport", "ImagingSelection")]
        images = alice.get(f"/dicom-web/studies/{ALICE.uid}/series").status_code
        place.authority.user, place.authority.grants = {"sub": "dr", "roles": ["radiologist"]}, None
        radiologist = place.log_in()

        pages = {"page", "report page", "patient's page", "image"}
        assert statuses == {what: 403 if what in pages else 404 for what in statuses}
        assert (found, images) == ([0, 0], 404)
        assert radiologist.get(f"/studies/{ALICE.uid}/evidence").status_code == 200


def test_a_study_with_reports_about_two_patients_is_shown_to_neither(own_place: Place) -> None:
    Chart("bob", 7).keep(own_place.results, study=ALICE.study)

    for patient in ("alice", "bob"):
        assert own_place.as_patient(patient).get(f"/dicom-web/studies/{ALICE.uid}/series").status_code == 404


def test_results_that_do_not_say_whom_they_are_about_are_no_patients(own_place: Place) -> None:
    for file in own_place.results.path.glob(f"{ALICE.uid}/*/*/imr.json"):
        file.unlink()

    assert own_place.as_patient("alice").get(f"/studies/{ALICE.uid}/page").status_code == 404
    assert own_place.log_in().get(f"/studies/{ALICE.uid}/page").status_code in (200, 404)
