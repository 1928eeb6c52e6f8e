"""Every route of /openapi.json, with requests that schemathesis makes up: no defect, no undocumented answer."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import schemathesis
from evidence import kept_of, make_evidence
from fuzzing import cases
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from memory import Site, image, report
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from nlp.phrases import Reading
from plugin.dicom.pixels import radiograph_of
from plugin.imr.endpoint import MultimediaReports
from plugin.imr.shelf import ResultShelf
from plugin.page.evidence import evidence_json, evidence_page
from plugin.ports import Step, independent
from plugin.results import ResultFile, ResultFolder
from plugin.service import Services, create_app
from plugin.service.fhir import FhirService
from plugin.service.metrics import Metrics
from plugin.values import StudyRef


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("service")
    site, evidence = Site(folder / "data"), make_evidence()
    results = ResultFolder(folder / "results")
    for uid in ("1.1", "1.2"):
        site.archive.add(image(StudyRef(uid)))
        site.reports.put(report(f"report-{uid}", study_instance_uids=(uid,)))
    files = (
        ResultFile("evidence.json", evidence_json(evidence).encode()),
        ResultFile("evidence.html", evidence_page(evidence).encode()),
    )
    results.write(evidence.study, kept_of(evidence), files)
    services = Services(
        queue=site.queue,
        results=results,
        work=independent(Step("ground", lambda _: None)),
        intake=site.intake,
        grounder=lambda: None,  # type: ignore[arg-type,return-value]
        read_report=lambda _: Reading(()),
        read_dicom=radiograph_of,
        metrics=Metrics(),
    )
    fhir = FhirService(MultimediaReports(ResultShelf(results), ""), None, creates=False)
    return schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(services, work=False, fhir=fhir, allowed_hosts=("*",))
    )


#: Values may be refused for what they mean, which a schema does not tell, and unknown parameters are passed over.
NOT_ASKED = (checks.positive_data_acceptance, checks.negative_data_rejection)


@pytest.mark.filterwarnings("error")
def test_no_request_meets_a_defect_or_an_undocumented_answer(api: Any) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    each = max(2, cases(0) // len(operations) // 2)
    wrong = []

    for operation, mode in product(operations, GenerationMode):

        @settings(max_examples=each, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def is_answered(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=NOT_ASKED)

        try:
            is_answered()
        except Unsatisfiable:  # a route without parameters can be asked in one way only
            continue
        except FailureGroup as failures:
            wrong.append(failures)

    if wrong:
        raise ExceptionGroup("answers that /openapi.json does not tell of", wrong)
    assert len(operations) > 20
    print(f"\nOpenAPI: {len(operations)} operations, {2 * each} requests each, as described and not")
