"""What else Sightline makes of FHIR: subscriptions, HL7 v2 messages as FHIR, and the synthetic studies' reports."""

import json
from datetime import UTC, datetime

import pytest
from fhir_check import checker
from hl7_input import OBR, OBX, ORC, PID, ZDS, field, obx, oru

from plugin.fhir.capability import Release
from plugin.fhir.subscription import Hook, subscription, topic
from plugin.fhir.twin import report_bundle
from plugin.hl7v2.message import message_of
from plugin.hl7v2.reports import reports_in
from plugin.twin import record_of

END = datetime(2026, 3, 8, 12, tzinfo=UTC)
HOOK = Hook("https://sightline.example/hooks/fhir", "secret")
HOOKS = {
    "by criteria": HOOK,
    "of some categories": Hook(HOOK.endpoint, HOOK.secret, categories="RAD,http://loinc.org|LP29684-5"),
    "by the server's topic": Hook(HOOK.endpoint, HOOK.secret, topic="http://fhir.example/topics/reports"),
    "of some categories by the server's topic": Hook(
        HOOK.endpoint, HOOK.secret, categories="RAD", topic="http://fhir.example/topics/reports"
    ),
}


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize("name", HOOKS)
def test_subscriptions_are_valid_and_ask_for_no_content(name, release):
    assert checker(release.value).written(subscription(HOOKS[name], release, end=END)) == []


def test_the_topic_for_r5_servers_is_valid():
    assert checker("R5").check(topic(HOOK)) == []


FAULTS = {
    "by mail": (lambda r: r["channel"].update(type="email"), "the fixed value"),
    "without an end": (lambda r: r.pop("end"), "end: 0 given"),
    "without a secret": (lambda r: r["channel"].pop("header"), "header: 0 given"),
    "with the report as payload": (lambda r: r["channel"].update(payload="application/fhir+json"), "sl-80:"),
    "for everything that comes": (lambda r: r.update(criteria="Observation?"), "sl-81:"),
    "with an extension beside its criteria that nobody defined": (
        lambda r: r.update(_criteria={"extension": [{"url": "http://acme.example/x", "valueString": "x"}]}),
        "no definition of http://acme.example/x",
    ),
    "with an extension beside its criteria that says nothing": (
        lambda r: r.update(_criteria={"extension": [{"url": "http://acme.example/x"}]}),
        "ext-1",
    ),
    "with something beside its criteria that is no element": (lambda r: r.update(_criteria={"x": 1}), "no such elem"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_finds_faults_in_subscriptions(fault):
    spoil, says = FAULTS[fault]
    resource = subscription(HOOK, Release.R4, end=END)
    spoil(resource)

    assert any(says in line for line in checker().written(resource)), checker().written(resource)


def test_the_checker_finds_another_payload_content_than_none():
    resource = subscription(HOOKS["by the server's topic"], Release.R4, end=END)
    resource["channel"]["_payload"]["extension"][0]["valueCode"] = "full-resource"

    assert any("sl-80:" in line for line in checker().written(resource))


MESSAGES = {
    "whole": oru(),
    "without study": oru(ORC, OBR, *OBX),
    "patient of many numbers": oru(pid=field(PID, 3, "1^^^A~2^^^B&urn:x&ISO^PI~3")),
    "status that is not known": oru(ORC, field(OBR, 25, "?"), *OBX, ZDS),
    "formatted text": oru(ORC, OBR, obx(r"one\.br\two \H\bold\N\ \E\ \T\ ", kind="FT"), ZDS),
    "no text": oru(ORC, OBR, ZDS),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_of_hl7_v2_become_valid_r4(name):
    for received in reports_in(message_of(MESSAGES[name], otherwise="utf-8"), accession_fields=("OBR-3", "OBR-18")):
        entries = [{"resource": each} for each in received.resources]

        assert checker().check({"resourceType": "Bundle", "type": "collection", "entry": entries}) == []


@pytest.mark.parametrize("seed", range(5))
def test_reports_of_synthetic_studies_are_valid_r4(seed):
    report = report_bundle(record_of(seed), text="FINDINGS: Effusion <5 mm & rising.", modality="DX")

    assert checker().check(json.loads(report)) == []
