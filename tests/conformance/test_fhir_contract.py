"""Everything that is written for the matrix of sources holds to HL7's definitions, to our profiles and to IHE IMR."""

import json
from dataclasses import replace
from functools import cache

import pytest
from fhir_check import checker
from fhir_examples import BASE, HOSPITAL, evidences, taken_back, transaction
from matrix import CELLS, ORDINARY, evidence_of

from plugin.fhir.capability import Release
from plugin.fhir.life import settled
from plugin.fhir.multimedia import about_of, frame_of, rendered, report_at, store_bundle
from plugin.fhir.naming import condition, in_server_ids
from plugin.fhir.selections import selections_of
from plugin.identity import derived_id
from plugin.page.document import evidence_document

# What pixels are stored like makes no difference to FHIR: these are the cells that differ in what does.
DIFFERENT = tuple({(each.phrases, each.images, each.shape, each.turned): each for each in (*CELLS, ORDINARY)}.values())


@cache
def evidence(cell):
    return evidence_of(cell)


@pytest.mark.parametrize("cell", DIFFERENT, ids=str)
def test_results_of_the_matrix_hold_to_r4_and_to_our_profiles(cell):
    assert checker().written(transaction(evidence(cell))) == []


@pytest.mark.parametrize("cell", DIFFERENT[:6], ids=str)
def test_results_of_the_matrix_hold_to_r5_and_are_taken_back_in_both(cell):
    assert checker("R5").written(transaction(evidence(cell), release=Release.R5)) == []
    for release in Release:
        assert checker(release.value).written(taken_back(evidence(cell), release=release)) == []


@pytest.mark.parametrize("release", Release)
def test_what_an_amended_report_leaves_and_takes_back_holds_to_our_profiles(release):
    before = evidences()["every-fate"]
    there = [each["resource"] for each in transaction(before, release=release)["entry"]]
    known = [each for each in there if each["resourceType"] in ("Observation", "ImagingSelection")]
    known[0] |= {"status": "final"} if release is Release.R4 else {}

    after = transaction(replace(before, phrases=before.phrases[3:]), release=release)
    bundle = json.loads(settled(json.dumps(after), known))

    assert checker(release.value).written(bundle) == []
    statuses = {each["resource"].get("status") for each in bundle["entry"]}
    assert {"preliminary", "entered-in-error"} <= statuses


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize("name", evidences())
def test_results_hold_to_our_profiles_where_the_server_gives_ids_itself(name, release):
    resources = [each["resource"] for each in transaction(evidences()[name], release=release)["entry"]]
    names = [f"{each['resourceType']}/{each['id']}" for each in resources]
    new = {name: f"urn:uuid:{derived_id('test', name)}" for name in names}
    entries = [
        {
            "fullUrl": new[name],
            "resource": in_server_ids(resource, name, {}, new),
            "request": {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition(name)},
        }
        for name, resource in zip(names, resources, strict=True)
    ]

    assert checker(release.value).written({"resourceType": "Bundle", "type": "transaction", "entry": entries}) == []


@pytest.mark.parametrize("cell", DIFFERENT, ids=str)
def test_multimedia_reports_of_the_matrix_hold_to_imr(cell):
    document = evidence_document(evidence(cell))
    report = report_at(frame_of(evidence(cell), organization=HOSPITAL), document, base=BASE)
    selections = selections_of(document, about_of(report))
    pages = {form["url"]: rendered(document, base=BASE) for form in report["presentedForm"]}
    bundle = json.loads(store_bundle(evidence(cell), base=BASE, organization=HOSPITAL))

    assert checker().multimedia(report, selections=selections, pages=pages) == []
    assert checker().multimedia(bundle, selections=selections) == []
