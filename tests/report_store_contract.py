"""What every :class:`plugin.ports.ReportStore` promises; run on the folder and on a real FHIR server.

A subclass has a fixture ``site``: ``site.store``, ``site.put(*resources)`` to fill it, ``site.written(type, id)`` to
read a result back without its ``meta``. Ids are made unique for each test, since a server outlives it.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from typing import Any

import pytest
from evidence import make_evidence
from fhir_input import TEXT, attachment, imaging_study, order, patient, report, typed

from plugin.errors import ConformanceError, InputError
from plugin.fhir.writing import bundle_of
from plugin.identity import derived_uid
from plugin.ports import ReportStore, StudyIdentity
from plugin.values import PatientRef, ReportRef, ReportStatus, StudyRef


@dataclass(frozen=True)
class World:
    """One patient with an order, a study and what reports are about them, under ids of their own."""

    tag: str

    @property
    def uid(self) -> str:
        return derived_uid("contract", self.tag)

    @property
    def identity(self) -> StudyIdentity:
        return StudyIdentity(StudyRef(self.uid), f"A{self.tag}", PatientRef(f"P{self.tag}"))

    def patient(self, **changes: Any) -> dict[str, Any]:
        return patient(**{"id": f"pat{self.tag}", "identifier": [typed(f"P{self.tag}", "MR")], **changes})

    def order(self, **changes: Any) -> dict[str, Any]:
        own = {"id": f"order{self.tag}", "subject": self.subject, "identifier": [typed(f"A{self.tag}", "ACSN")]}
        return order(**(own | changes))

    def study(self, **changes: Any) -> dict[str, Any]:
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{self.uid}"}
        own = {"id": f"study{self.tag}", "subject": self.subject, "basedOn": self.based_on, "identifier": [uid]}
        return imaging_study(**(own | changes))

    def report(self, **changes: Any) -> dict[str, Any]:
        links = {"subject": self.subject, "basedOn": self.based_on, "imagingStudy": self.imaging_study}
        return report(**({"id": f"report{self.tag}", **links} | changes))

    @property
    def subject(self) -> dict[str, str]:
        return {"reference": f"Patient/pat{self.tag}"}

    @property
    def based_on(self) -> list[dict[str, str]]:
        return [{"reference": f"ServiceRequest/order{self.tag}"}]

    @property
    def imaging_study(self) -> list[dict[str, str]]:
        return [{"reference": f"ImagingStudy/study{self.tag}"}]


def ids(refs: tuple[ReportRef, ...]) -> list[str]:
    return [each.report_id for each in refs]


class ReportStoreContract:
    """The promises, one test each."""

    @pytest.fixture
    def world(self) -> World:
        return World(uuid.uuid4().hex[:12])

    def test_it_is_a_report_store(self, site):
        store: ReportStore = site.store
        assert callable(store.find)

    def test_a_report_is_found_by_study_uid_and_read(self, site, world):
        site.put(world.patient(), world.order(), world.study(), world.report())

        (ref,) = site.store.find(world.identity)
        found = site.store.read(ref)

        assert found.ref == ref
        assert (found.text, found.text_source) == (TEXT, "presentedForm text/plain")
        assert found.study_instance_uids == (world.uid,)
        assert found.accession_numbers == (f"A{world.tag}",)
        assert found.patient == PatientRef(f"P{world.tag}")
        assert found.subject_id == f"pat{world.tag}"

    def test_a_report_is_found_by_its_order_alone(self, site, world):
        site.put(world.patient(), world.order(), world.study(), world.report(imagingStudy=None))

        assert ids(site.store.find(world.identity)) == [f"report{world.tag}"]

    def test_a_report_is_found_through_the_order_of_its_study(self, site, world):
        site.put(world.patient(), world.order(), world.study(identifier=[]), world.report(basedOn=None))

        assert ids(site.store.find(world.identity)) == [f"report{world.tag}"]

    def test_a_report_that_names_its_study_by_uid_only_is_found(self, site, world):
        logical = [{"identifier": {"system": "urn:dicom:uid", "value": world.uid}}]
        site.put(world.patient(), world.report(imagingStudy=logical, basedOn=None))

        assert ids(site.store.find(world.identity)) == [f"report{world.tag}"]

    def test_nothing_about_the_study_means_no_report(self, site, world):
        assert site.store.find(world.identity) == ()

    def test_the_patients_other_reports_are_not_taken(self, site, world):
        prior = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{derived_uid('prior', world.tag)}"}}
        other = [typed(f"B{world.tag}", "ACSN")]
        site.put(
            world.patient(),
            world.report(id=f"prior{world.tag}", imagingStudy=[prior], basedOn=None),
            world.report(id=f"sameorder{world.tag}", imagingStudy=[prior], identifier=[typed(f"A{world.tag}", "ACSN")]),
            world.report(id=f"otherorder{world.tag}", imagingStudy=None, basedOn=None, identifier=other),
            world.report(id=f"unknown{world.tag}", imagingStudy=None, basedOn=None),
        )

        assert site.store.find(world.identity) == ()

    def test_the_same_accession_number_of_another_patient_is_not_taken(self, site, world):
        stranger = world.patient(identifier=[typed("SOMEBODY", "MR")])
        site.put(stranger, world.order(), world.report(imagingStudy=None))

        assert site.store.find(world.identity) == ()

    def test_the_study_under_another_patient_is_fatal(self, site, world):
        site.put(world.patient(identifier=[typed("SOMEBODY", "MR")]), world.order(), world.study(), world.report())

        with pytest.raises(InputError, match="another patient") as caught:
            site.store.find(world.identity)
        assert "SOMEBODY" not in str(caught.value)

    def test_several_reports_come_newest_first_without_withdrawn_ones(self, site, world):
        everything = [world.patient(), world.order(), world.study()]
        for name, status, hour in (("w", "entered-in-error", 12), ("a", "final", 9), ("b", "final", 11)):
            stamp = f"2026-03-01T{hour:02}:00:00Z"
            everything.append(world.report(id=name + world.tag, status=status, meta=None, issued=stamp))
            site.put(*everything)
            everything = []

        found = ids(site.store.find(world.identity))

        assert found == [f"b{world.tag}", f"a{world.tag}"]

    def test_findings_and_impression_as_observations_are_read(self, site, world):
        name = f"obs{world.tag}"
        part = {"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "Findings"}}
        site.put(
            world.patient(),
            world.study(basedOn=None),
            part | {"valueString": "Left effusion."},
            world.report(presentedForm=None, basedOn=None, result=[{"reference": f"Observation/{name}"}]),
        )

        (ref,) = site.store.find(world.identity)

        assert site.store.read(ref).text == "FINDINGS: Left effusion."

    def test_a_withdrawn_report_is_refused_when_read(self, site, world):
        site.put(world.patient(), world.study(basedOn=None), world.report(status="entered-in-error", basedOn=None))

        (ref,) = site.store.find(world.identity)

        with pytest.raises(InputError, match="withdrawn"):
            site.store.read(ref)

    def test_a_report_without_usable_text_is_refused_when_read(self, site, world):
        pdf = [attachment("%PDF-1.7", "application/pdf")]
        site.put(world.patient(), world.study(basedOn=None), world.report(presentedForm=pdf, basedOn=None))

        (ref,) = site.store.find(world.identity)

        with pytest.raises(InputError, match="PDF"):
            site.store.read(ref)

    def test_a_report_says_what_it_is_about(self, site, world):
        site.put(world.patient(), world.order(), world.study(), world.report())

        found = site.store.describe(f"report{world.tag}")

        assert found.ref == site.store.find(world.identity)[0]
        assert (found.status, found.unusable, found.ours) == (ReportStatus.FINAL, "", False)
        assert found.study_instance_uids == (world.uid,)
        assert found.accession_numbers == (f"A{world.tag}",)
        assert found.patient == PatientRef(f"P{world.tag}")

    def test_a_report_that_cannot_be_read_says_what_it_is_about_nevertheless(self, site, world):
        pdf = [attachment("%PDF-1.7", "application/pdf")]
        site.put(world.patient(), world.study(basedOn=None), world.report(status="cancelled", presentedForm=pdf))

        found = site.store.describe(f"report{world.tag}")

        assert found.status is ReportStatus.CANCELLED
        assert "PDF" in found.unusable
        assert found.study_instance_uids == (world.uid,)

    @pytest.mark.parametrize("report_id", ["none-such", "urn:uuid:none-such"])
    def test_a_report_that_is_not_there_says_nothing(self, site, report_id):
        assert site.store.describe(report_id) is None

    @pytest.mark.parametrize("report_id", ["none-such", "urn:uuid:none-such"])
    def test_a_report_that_is_not_there_is_refused(self, site, report_id):
        with pytest.raises(InputError, match="this version of the report is not"):
            site.store.read(ReportRef(report_id, "1"))

    def test_what_is_written_can_be_read_back(self, site):
        evidence = make_evidence()
        bundle = bundle_of(evidence, page_url="evidence.html", instances=())

        site.store.write(bundle)

        names = []
        for entry in json.loads(bundle)["entry"]:
            resource = entry["resource"]
            names.append(entry["request"]["url"])
            assert site.written(resource["resourceType"], resource["id"]) == resource
        told = site.store.written((*names, "Observation/none"))
        assert [f"{each['resourceType']}/{each['id']}" for each in told] == names

    def test_the_same_bundle_twice_changes_nothing(self, site):
        bundle = bundle_of(make_evidence(), page_url="evidence.html", instances=())
        site.store.write(bundle)
        before = site.everything(bundle)

        site.store.write(bundle)

        assert site.everything(bundle) == before

    def test_a_later_result_for_the_same_report_replaces_the_first(self, site):
        evidence = make_evidence()
        (first, second) = (bundle_of(evidence, page_url=url, instances=()) for url in ("one.html", "two.html"))

        site.store.write(first)
        site.store.write(second)

        (document,) = (e["resource"] for e in json.loads(second)["entry"] if "DocumentReference" in e["request"]["url"])
        assert site.written("DocumentReference", document["id"]) == document

    @pytest.mark.parametrize(
        "spoilt",
        [
            lambda bundle: bundle | {"type": "batch"},
            lambda bundle: bundle | {"entry": []},
            lambda bundle: bundle | {"resourceType": "Parameters"},
            lambda bundle: bundle | {"entry": [bundle["entry"][0] | {"request": {"method": "POST", "url": "Device"}}]},
            lambda bundle: bundle | {"entry": [bundle["entry"][0] | {"request": {"method": "PUT", "url": "Device/x"}}]},
            lambda _: {"not": "FHIR"},
        ],
    )
    def test_what_is_no_transaction_of_puts_is_not_written(self, site, spoilt):
        evidence = replace(make_evidence(), phrases=())
        bundle = json.loads(bundle_of(evidence, page_url=None, instances=()))

        with pytest.raises(ConformanceError):
            site.store.write(json.dumps(spoilt(bundle)))
