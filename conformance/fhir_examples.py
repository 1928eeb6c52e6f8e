"""The examples of ``conformance/fhir/examples``, made from the synthetic evidence of the tests.

    make fhir     # writes them anew

SEG and SR are stand-ins here: their bytes, and with them size and hash, change with the libraries that write them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evidence import decided_evidence, make_evidence, make_header, make_radiograph

from plugin.fhir.capability import Release
from plugin.fhir.life import withdrawal
from plugin.fhir.multimedia import Organization, about_of, frame_of, rendered, report_at, store_bundle
from plugin.fhir.selections import as_basic, selections_of, withdrawn_selection
from plugin.fhir.subscription import Hook, subscription
from plugin.fhir.writing import bundle_of
from plugin.page.document import evidence_document
from plugin.values import Evidence

Json = dict[str, Any]

FOLDER = Path(__file__).with_name("fhir") / "examples"
BASE = "https://sightline.example"
HOSPITAL = Organization("St. Elsewhere", "http://example.org/organizations", "17")


@dataclass(frozen=True, slots=True)
class StandIn:
    """A SOP instance of which only the references count."""

    sop_class_uid: str
    sop_instance_uid: str
    content: bytes
    segments: tuple[str, ...] = ()
    file_name: str = "stand-in.dcm"


@dataclass(frozen=True, slots=True)
class Example:
    """A resource that Sightline writes; *pages*: what is at the addresses that it names."""

    resource: Json
    release: str = "R4"
    pages: tuple[tuple[str, bytes], ...] = ()
    selections: tuple[Json, ...] = ()


def stand_ins(evidence: Evidence) -> tuple[StandIn, ...]:
    """A SEG of the lit phrases and an SR; no SR without phrases."""
    lit = tuple(phrase.tracking_uid for phrase in evidence.phrases if phrase.lit)
    seg = (StandIn("1.2.840.10008.5.1.4.1.1.66.4", "2.25.1", b"A Segmentation", lit),) if lit else ()
    sr = (StandIn("1.2.840.10008.5.1.4.1.1.88.33", "2.25.2", b"A Structured Report"),) if evidence.phrases else ()
    return (*seg, *sr)


def transaction(evidence: Evidence, *, release: Release = Release.R4) -> Json:
    """What is written for *evidence*."""
    url, page = f"{BASE}/studies/{evidence.study.study_instance_uid}/page", b"<!doctype html><title>Page</title>"
    instances = stand_ins(evidence)
    return _read(bundle_of(evidence, page_url=url, instances=instances, page=page, release=release))


def taken_back(evidence: Evidence, *, release: Release = Release.R4) -> Json:
    """What is written when the report of *evidence* is withdrawn."""
    there = [
        entry["resource"]
        for entry in transaction(evidence, release=release)["entry"]
        if entry["resource"]["resourceType"] in ("Observation", "DocumentReference", "ImagingSelection")
    ]
    ids, now = (evidence.study, evidence.report.ref.report_id), datetime(2026, 4, 1, 12, tzinfo=UTC)
    return _read(withdrawal(*ids, there, by=evidence.provenance, now=now, release=release))


def _read(bundle: str | None) -> Json:
    read: Json = json.loads(bundle or "{}")
    return read


def evidences() -> dict[str, Evidence]:
    """The synthetic evidence that the examples are made of."""
    whole = make_evidence()
    report = replace(whole.report, subject_id="p", service_request_ids=("o",), imaging_study_ids=("s",))
    on_two = make_evidence(make_radiograph(), make_radiograph(make_header(number=2)))
    return {
        "every-fate": whole,
        "two-images": replace(on_two, phrases=on_two.phrases[1:2]),
        "known-by-id": replace(whole, report=report, phrases=whole.phrases[1:2]),
        "none-found": replace(whole, phrases=tuple(phrase for phrase in whole.phrases if not phrase.lit)),
        "no-phrase": replace(whole, phrases=()),
        "decided": decided_evidence(),
    }


def examples() -> dict[str, Example]:
    """File name -> example."""
    made = {f"Bundle-{name}.json": Example(transaction(evidence)) for name, evidence in evidences().items()}
    known = evidences()["known-by-id"]
    made["Bundle-withdrawn.json"] = Example(taken_back(known))
    made["Bundle-results.r5.json"] = Example(transaction(known, release=Release.R5), "R5")
    made["Bundle-withdrawn.r5.json"] = Example(taken_back(known, release=Release.R5), "R5")
    return made | dict(_multimedia(evidences()["two-images"])) | dict(_subscriptions())


def _subscriptions() -> Iterator[tuple[str, Example]]:
    end = datetime(2026, 4, 8, 12, tzinfo=UTC)
    hook = Hook(f"{BASE}/hooks/fhir", "a secret", categories="RAD")
    by_topic = Hook(hook.endpoint, hook.secret, categories="RAD", topic="http://fhir.example/topics/reports")
    yield "Subscription-by-criteria.json", Example(subscription(hook, Release.R4, end=end))
    yield "Subscription-by-topic.json", Example(subscription(by_topic, Release.R4, end=end))
    yield "Subscription.r5.json", Example(subscription(by_topic, Release.R5, end=end), "R5")


def _multimedia(evidence: Evidence) -> Iterator[tuple[str, Example]]:
    document = evidence_document(evidence)
    report = report_at(frame_of(evidence, organization=HOSPITAL), document, base=BASE)
    page = rendered(document, base=BASE)
    selections = selections_of(document, about_of(report))
    pages = tuple((form["url"], page) for form in report["presentedForm"])
    yield "DiagnosticReport-multimedia.json", Example(report, pages=pages, selections=selections)
    for release in ("R4", "R5"):
        bundle = store_bundle(evidence, base=BASE, organization=HOSPITAL, r5=release == "R5")
        if bundle:
            name = f"Bundle-store-multimedia-report{'' if release == 'R4' else '.r5'}.json"
            yield name, Example(json.loads(bundle), release, selections=selections)
    yield "ImagingSelection-region.r5.json", Example(selections[0], "R5")
    yield "ImagingSelection-withdrawn.r5.json", Example(withdrawn_selection(selections[0]), "R5")
    yield "Basic-region.json", Example(as_basic(selections[0]))


def as_text(resource: Json) -> str:
    """*resource* as its file holds it."""
    return json.dumps(resource, ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Write the files anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stale in FOLDER.glob("*.json"):
        stale.unlink()
    for name, example in examples().items():
        (FOLDER / name).write_text(as_text(example.resource), encoding="utf-8")


if __name__ == "__main__":
    main()
