"""The demo and the service's way of a study, on the embedded default."""

import shutil
import subprocess
import sys
import time

import pytest
import spacy
from pydicom import dcmread

from plugin.archive import sole_study_in
from plugin.cli import main
from plugin.commands.synth import run as synthesise
from plugin.doctor import Finding
from plugin.errors import InputError, TransientError
from plugin.flow import process
from plugin.page.address import page_path
from plugin.settings import Settings
from plugin.wiring import demand, make_edges, make_services, make_tools

SEED = 18

# Runs a command and prints its peak of memory. A small process starts it, since Linux counts the peak of
# whoever starts a program as the program's own: straight from here it would be that of all tests so far.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo whose example is a small one, made beforehand."""
    out = tmp_path_factory.mktemp("demo")
    synthesise(out=out / "example", seed=SEED, count=1, size=384)
    assert main(["demo", "--out", str(out), "--seed", str(SEED)]) == 0
    return out


@pytest.fixture
def settings(demo, tmp_path):
    example = tmp_path / "example"
    shutil.copytree(demo / "example" / f"study-{SEED}", example)
    for ours in (*example.glob("SEG*"), *example.glob("SR*")):
        ours.unlink()
    return Settings(data_dir=tmp_path, archive_dir=example, reports_dir=example, public_url="http://127.0.0.1:8042")


@pytest.fixture(scope="module")
def tools():
    return make_tools(Settings())


def do(services, job):
    """Every step of *job*, as a runner does them."""
    with services.work(job) as steps:
        for step in steps:
            step.run(job)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_demo_stores_seg_and_sr_beside_the_images(demo):
    example = demo / "example" / f"study-{SEED}"

    assert {dcmread(path).Modality for path in example.glob("*.dcm")} >= {"SEG", "SR"}
    assert len(list(demo.glob("results/*/*/*/evidence.html"))) == 1


def test_a_second_demo_changes_nothing(demo, capsys):
    before = files(demo)

    assert main(["demo", "--out", str(demo), "--seed", str(SEED)]) == 0

    assert files(demo) == before
    said = capsys.readouterr().out
    assert "negated" in said
    assert "sr.dcm" in said


def test_the_service_grounds_a_study_with_its_report(settings, tools):
    services = make_services(settings, tools)
    study = sole_study_in((settings.archive_dir,))

    (job,) = services.intake.take_study(study)
    do(services, job)

    assert services.intake.take_study(study) == (job,)
    assert services.results.read(study, "evidence.json")
    for check in services.checks:
        check.probe()  # raises when something is missing


def test_links_in_the_results_lead_to_the_service(settings, tools):
    services = make_services(settings, tools)
    study = sole_study_in((settings.archive_dir,))
    (job,) = services.intake.take_study(study)

    do(services, job)

    (document,) = (settings.data_dir / "fhir").glob("DocumentReference-*.json")
    (kept,) = services.results.reports(study)
    assert f"http://127.0.0.1:8042{page_path(study, kept.ref.report_id)}" in document.read_text()


def test_a_changed_report_is_another_job(settings, tools):
    services = make_services(settings, tools)
    study = sole_study_in((settings.archive_dir,))
    before = services.intake.take_study(study)
    report = settings.reports_dir / "report.json"

    report.write_text(
        report.read_text().replace('"status": "final"', '"status": "amended"').replace('"id": "', '"id": "x')
    )

    assert services.intake.take_study(study) != before


def test_a_study_without_a_report_says_so(settings, tools):
    (settings.reports_dir / "report.json").unlink()
    study = sole_study_in((settings.archive_dir,))

    with pytest.raises(InputError, match="no report about this study"):
        process(study, edges=make_edges(settings), tools=tools, page_url=None)


def test_a_site_model_that_is_not_installed_is_named_at_the_start():
    with pytest.raises(InputError, match="SIGHTLINE_SITE_MODEL"):
        make_tools(Settings(site_model="no_such_model"))


def test_the_entities_of_a_site_model_add_to_what_is_found(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "FINDING", "pattern": "zebra sign"}])
    nlp.to_disk(tmp_path)
    text = "FINDINGS: Zebra sign in the left lung. There is a zebra sign."

    names = [
        {phrase.text.lower() for phrase in make_tools(Settings(site_model=model)).read_report(text).phrases}
        for model in (None, str(tmp_path))
    ]

    assert not any("zebra" in name for name in names[0])
    assert any("zebra" in name for name in names[1])


def test_what_the_doctor_finds_missing_makes_the_service_unready():
    with pytest.raises(TransientError, match="archive: gone"):
        demand(Settings(), lambda _: Finding("archive", "gone", "bring it back"))


def test_grounding_takes_less_than_fifteen_seconds_and_two_gigabytes(demo, tmp_path):
    example = demo / "example" / f"study-{SEED}"
    command = [sys.executable, "-m", "plugin.cli", "ground", "--study", str(example)]
    command += ["--report", str(example / "report.json"), "--out", str(tmp_path / "out")]
    began = time.perf_counter()

    measured = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True, check=True)

    assert time.perf_counter() - began < 15
    assert int(measured.stdout) < 2 * 1024 * 1024  # in KiB
