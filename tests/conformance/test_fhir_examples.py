"""The examples of what Sightline writes: made by the project, current, valid, and every profile has one."""

import json
import random
import subprocess
import sys

import pytest
import servers
from fhir_check import checker
from fhir_check.profiles import profiles
from fhir_examples import FOLDER, as_text, examples


def test_the_examples_are_the_ones_that_the_program_makes():
    made = {name: as_text(example.resource) for name, example in examples().items()}

    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")} == made


@pytest.mark.parametrize("name", examples())
def test_the_examples_are_valid(name):
    example = examples()[name]
    resource = json.loads(as_text(example.resource))
    one, kind = checker(example.release), resource["resourceType"]

    if kind == "DiagnosticReport" or "store" in name:
        assert one.multimedia(resource, selections=example.selections, pages=dict(example.pages)) == []
    else:
        assert one.written(resource) == []


@pytest.mark.parametrize("profile", [*profiles()], ids=lambda profile: profile.name)
def test_every_profile_has_an_example(profile):
    found = [
        resource
        for example in examples().values()
        if example.release == profile.release
        for resource in (example.resource, *(each["resource"] for each in example.resource.get("entry", ())))
        if resource["resourceType"] == profile.type
    ]

    assert any(checker(profile.release).conforms(resource, profile) == [] for resource in found)


WRONG = (None, 1, -1.5, True, "", "x", [], ["x"], [None], [{}], {}, {"a": 1})
SMALL = ("Bundle-no-phrase.json", "DiagnosticReport-multimedia.json", "Basic-region.json", "Subscription-by-topic.json")


@pytest.mark.parametrize("name", SMALL)
def test_the_checker_says_what_is_wrong_with_anything_and_never_falls_over_it(name):
    rng = random.Random(name)
    quiet = 0
    for _ in range(60):
        resource = json.loads(as_text(examples()[name].resource))
        parent, key = rng.choice(list(places(resource)))
        parent[key] = rng.choice(WRONG)

        quiet += not (checker().multimedia(resource) if "multimedia" in name else checker().written(resource))

    assert quiet < 12  # another word where any word is fine


def places(part):
    for key in part if isinstance(part, dict) else range(len(part)):
        yield part, key
        if isinstance(part[key], dict | list):
            yield from places(part[key])


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fhir_check", *map(str, arguments)],
        env={"PYTHONPATH": str(servers.ROOT / "conformance")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_program_tells_good_files_from_bad_ones(tmp_path):
    good, bad, other = FOLDER / "Bundle-no-phrase.json", tmp_path / "bad.json", tmp_path / "none.json"
    bundle = json.loads(good.read_text(encoding="utf-8"))
    bundle["entry"][0]["resource"]["manufacturer"] = "Acme"
    bad.write_text(json.dumps(bundle))
    other.write_text("[]")

    answers = [run("--written", *files) for files in ((good,), (good, bad), (other,))]

    assert [answer.returncode for answer in answers] == [0, 1, 2]
    assert "bad.json: 1 errors\n  Bundle.entry[0]:device.resource.manufacturer: not the fixed" in answers[1].stdout


def test_the_program_holds_a_multimedia_report_to_imr(tmp_path):
    example = examples()["DiagnosticReport-multimedia.json"]
    page = tmp_path / "page.html"
    page.write_bytes(example.pages[0][1])
    for number, selection in enumerate(example.selections):
        (tmp_path / f"{number}.json").write_text(as_text(selection), encoding="utf-8")
    report, first, *others = FOLDER / "DiagnosticReport-multimedia.json", *sorted(tmp_path.glob("*.json"))

    whole = run("--imr", "--page", page, report, first, *others)
    without_a_region = run("--imr", "--page", page, report, *others)

    assert (whole.returncode, without_a_region.returncode) == (0, 1)
    assert "0 such ImagingSelections, exactly one is needed" in without_a_region.stdout
