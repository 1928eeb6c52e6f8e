"""The rules of orthanc/sightline.py, with a stand-in for the ``orthanc`` module that keeps a change log in memory."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from servers import ROOT

from plugin.dicom.instance import MANUFACTURER
from plugin.identity import derived_uid
from plugin.service.events import SignedEvents

URL = "http://sightline:8000"
SECRET = "a secret of the tests"
PLAIN = frozenset({"CR", "DX"})
RADIOGRAPH = {
    "Instances": ["b", "a"],
    "MainDicomTags": {"Modality": "DX", "Manufacturer": "Any", "SeriesInstanceUID": "1.2.3"},
}
OUR_SEG = {
    "Instances": ["s"],
    "MainDicomTags": {"Modality": "SEG", "Manufacturer": "Sightline", "SeriesInstanceUID": "2.25.7"},
}


class FakeOrthancError(Exception):
    """Orthanc's exception: (code, message)."""


@dataclass
class FakeOrthanc:
    """An archive in memory behind the functions of Orthanc's module that the script calls."""

    configuration: dict[str, Any] = field(default_factory=lambda: {"Sightline": {"Url": URL}})
    studies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unstable: set[str] = field(default_factory=set)
    instances: dict[str, str] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)
    properties: dict[int, str] = field(default_factory=dict)
    explorer: str = ""
    routes: dict[str, Any] = field(default_factory=dict)
    on_change: Any = None
    log: list[str] = field(default_factory=list)

    def add(self, study: str, *, series: tuple[dict[str, Any], ...] = (RADIOGRAPH,)) -> None:
        """Store new series of a study, and log their instances as Orthanc does."""
        self.studies.setdefault(study, []).extend(series)
        for instance in (i for one in series for i in one["Instances"]):
            self.instances[f"{study}-{instance}"] = study
            for change in ("NewInstance", "NewSeries", "StableStudy"):
                self.changes.append({"ChangeType": change, "ID": f"{study}-{instance}", "Seq": len(self.changes) + 1})

    def get(self, path: str) -> bytes:
        if path.startswith("/changes?since="):
            since, limit = (int(part.partition("=")[2]) for part in path.partition("?")[2].split("&"))
            page = self.changes[since : since + limit]
            done = since + limit >= len(self.changes)
            return json.dumps({"Changes": page, "Done": done, "Last": page[-1]["Seq"] if page else since}).encode()
        if path == "/changes?last":
            return json.dumps({"Last": len(self.changes)}).encode()
        kind, identifier, *rest = path.strip("/").split("/")
        if kind == "instances" and identifier in self.instances:
            return json.dumps({"ID": self.instances[identifier]}).encode()
        if kind == "studies" and "metadata" in rest and path in self.metadata:
            return self.metadata[path]
        if kind == "studies" and identifier in self.studies and "metadata" not in rest:
            tags = {"StudyInstanceUID": f"1.{identifier}"}
            stable = identifier not in self.unstable
            return json.dumps(
                self.studies[identifier] if rest else {"IsStable": stable, "MainDicomTags": tags}
            ).encode()
        raise FakeOrthancError(17, "Unknown resource")

    def module(self) -> ModuleType:
        module = ModuleType("orthanc")
        vars(module).update(
            OrthancException=FakeOrthancError,
            ChangeType=SimpleNamespace(ORTHANC_STARTED=10, ORTHANC_STOPPED=11, STABLE_STUDY=8),
            GetConfiguration=lambda: json.dumps(self.configuration),
            GetGlobalProperty=self.properties.get,
            SetGlobalProperty=self.properties.__setitem__,
            RestApiGet=self.get,
            RestApiPut=self.metadata.__setitem__,
            RestApiDelete=self.metadata.__delitem__,
            LogInfo=self.log.append,
            LogWarning=self.log.append,
            LogError=self.log.append,
            RegisterRestCallback=self.routes.__setitem__,
            RegisterOnChangeCallback=lambda callback: setattr(self, "on_change", callback),
            ExtendOrthancExplorer=lambda script: setattr(self, "explorer", script),
        )
        return module


@pytest.fixture
def fake() -> FakeOrthanc:
    return FakeOrthanc()


@pytest.fixture
def script(fake: FakeOrthanc, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, loaded from its file as Orthanc loads it."""
    monkeypatch.setitem(sys.modules, "orthanc", fake.module())
    specification = importlib.util.spec_from_file_location("sightline_script", ROOT / "orthanc" / "sightline.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "sightline_script", module)  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


class Post:
    """Sightline as the script sees it: answers *status*, or does not answer when it is None."""

    def __init__(self, status: int | None = 202) -> None:
        self.status = status
        self.studies: list[str] = []

    def __call__(self, _settings: Any, study_instance_uid: str) -> int:
        if self.status is None:
            raise ConnectionRefusedError
        self.studies.append(study_instance_uid)
        return self.status


def notifier(script: Any, post: Post, **settings: Any) -> Any:
    return script.Notifier(script.Settings(url=URL, backlog=True, **settings), post=post)


def test_orthanc_is_not_an_importable_package() -> None:
    answer = subprocess.run([sys.executable, "-I", "-c", "import orthanc"], capture_output=True, text=True, check=False)

    assert "ModuleNotFoundError" in answer.stderr


def test_the_script_imports_nothing_but_the_standard_library_and_orthanc() -> None:
    text = (ROOT / "orthanc" / "sightline.py").read_text(encoding="utf-8")
    imported = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }

    assert imported <= set(sys.stdlib_module_names) | {"orthanc"}


@pytest.mark.parametrize(
    ("tags", "own"),
    [
        ({"Modality": "SEG", "Manufacturer": "Sightline", "SeriesInstanceUID": "2.25.1"}, True),
        ({"Modality": "SR", "Manufacturer": "Sightline", "SeriesInstanceUID": "2.25.1"}, True),
        ({"Modality": "DX", "Manufacturer": "Sightline", "SeriesInstanceUID": "2.25.1"}, False),
        ({"Modality": "SR", "Manufacturer": "Sightline Imaging", "SeriesInstanceUID": "2.25.1"}, False),
        ({"Modality": "SR", "Manufacturer": "Sightline", "SeriesInstanceUID": "1.2.25.1"}, False),
        ({"Modality": "SR"}, False),
    ],
)
def test_a_series_is_ours_by_its_kind_its_maker_and_its_uid(script: Any, tags: dict[str, str], own: bool) -> None:
    assert script.is_own({"MainDicomTags": tags}) is own


def test_the_script_knows_the_name_that_the_writers_use(script: Any) -> None:
    assert script.OWN_MANUFACTURER == MANUFACTURER
    assert derived_uid("segmentation-series", "1.2.3").startswith(script.OWN_UID_ROOT)


def test_the_fingerprint_ignores_order_and_our_own_objects(script: Any) -> None:
    turned = RADIOGRAPH | {"Instances": ["a", "b"]}

    assert script.fingerprint([RADIOGRAPH], PLAIN) == script.fingerprint([OUR_SEG, turned], PLAIN)
    assert script.fingerprint([RADIOGRAPH], PLAIN) != script.fingerprint([RADIOGRAPH | {"Instances": ["a"]}], PLAIN)
    assert script.fingerprint([OUR_SEG], PLAIN) == ""


def test_a_study_without_radiographs_is_no_news_and_a_report_in_one_with_them_is(script: Any) -> None:
    report = {"Instances": ["r"], "MainDicomTags": {"Modality": "SR", "Manufacturer": "Another"}}
    tomography = {"Instances": ["c"], "MainDicomTags": {"Modality": "CT"}}

    assert script.fingerprint([tomography, report], PLAIN) == ""
    assert script.fingerprint([RADIOGRAPH, report], PLAIN) != script.fingerprint([RADIOGRAPH], PLAIN)


def test_the_delay_grows_to_a_minute(script: Any) -> None:
    assert [script.delay_s(failures) for failures in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        *((status, "taken") for status in (200, 202)),
        (422, "refused"),
        *((status, "later") for status in (301, 400, 401, 404, 429, 500, 503)),
    ],
)
def test_an_answer_is_taken_refused_or_asked_again(script: Any, status: int, answer: str) -> None:
    assert script.answer_of(status).value == answer


def test_the_state_survives_being_written(script: Any) -> None:
    state = script.State(since=7, pending=("b", "a"))

    assert script.State.from_json(state.to_json()) == state


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"Sightline": {"Url": "sightline:8000"}}, "Url must be an address"),
        ({"Sightline": {"Url": URL, "PublicUrl": "javascript:alert(1)"}}, "PublicUrl must be an address"),
        ({"Sightline": {"Url": URL, "TimeoutSeconds": 0}}, "more than 0"),
        ({"Sightline": {"Urls": URL}}, "unknown settings in the block Sightline: Urls"),
        ({"Sightline": {"Url": URL, "Secret": "short"}}, "at least 16 characters"),
        ({"Sightline": {"Url": URL, "SecretFile": "/nowhere"}}, r"SecretFile cannot be read \(FileNotFoundError\)"),
        ({"RegisteredUsers": {"sightline": ""}}, "empty password"),
    ],
)
def test_a_setting_that_cannot_be_is_named(script: Any, configuration: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        script.settings_of(configuration)


def test_the_shipped_configuration_is_one_the_script_accepts(script: Any) -> None:
    configuration = json.loads((ROOT / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))
    unset = {name: "" for name, value in configuration["Sightline"].items() if isinstance(value, str)}
    block = configuration["Sightline"] | unset | {"Url": URL}

    settings = script.settings_of(configuration | {"Sightline": block})

    assert (settings.url, settings.backlog, settings.modalities) == (URL, False, {"CR", "DX", "RG"})


def test_secrets_come_from_files_and_are_not_shown(script: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    block = {"Url": URL, "SecretFile": str(tmp_path / "secret"), "Token": "of a proxy"}

    settings = script.settings_of({"Sightline": block})

    assert (settings.secret, settings.token) == (SECRET, "of a proxy")
    assert SECRET not in repr(settings)
    assert "of a proxy" not in repr(settings)


def test_an_event_is_signed_so_that_sightline_admits_it(script: Any) -> None:
    body = b'{"study_instance_uid": "1.2.3"}'
    header = script.signature(SECRET, body, now_s=1_800_000_000, nonce="0" * 32)

    SignedEvents(SECRET, clock=lambda: 1_800_000_000.0)(header, body)

    assert SECRET not in header


def test_a_stable_study_is_told_once(script: Any, fake: FakeOrthanc) -> None:
    post = Post()
    one = notifier(script, post)
    fake.add("s1")

    one.work()
    one.work()
    fake.add("s1", series=(OUR_SEG,))
    one.work()

    assert post.studies == ["1.s1"]
    assert one.status() == {
        "sightline": URL,
        "answering": True,
        "last_change": 9,
        "pending": 0,
        "taken": 1,
        "refused": 0,
        "later": 0,
    }


def test_an_unstable_study_waits(script: Any, fake: FakeOrthanc) -> None:
    post = Post()
    one = notifier(script, post)
    fake.add("s1")
    fake.unstable.add("s1")

    one.work()
    waiting = (list(post.studies), one.status()["pending"])
    fake.unstable.clear()
    one.work()

    assert waiting == ([], 1)
    assert post.studies == ["1.s1"]


def test_what_was_not_delivered_is_told_by_the_next_run_of_orthanc(script: Any, fake: FakeOrthanc) -> None:
    silent = notifier(script, Post(status=None))
    fake.add("s1")
    fake.add("s2")
    silent.work()
    silent.work()
    fake.add("s3")

    post = Post()
    notifier(script, post).work()

    assert silent.failures == 2
    assert sorted(post.studies) == ["1.s1", "1.s2", "1.s3"]


def test_a_study_that_fails_does_not_hold_up_the_others(script: Any, fake: FakeOrthanc) -> None:
    class Poisoned(Post):
        def __call__(self, settings: Any, study_instance_uid: str) -> int:
            super().__call__(settings, study_instance_uid)
            return 500 if study_instance_uid == "1.s1" else 202

    post = Poisoned()
    one = notifier(script, post)
    for study in ("s1", "s2", "s3"):
        fake.add(study)

    one.work()
    one.work()

    assert post.studies == ["1.s1", "1.s2", "1.s3", "1.s1"]
    assert one.state.pending == ("s1",)


def test_a_refused_study_is_not_asked_again_until_it_changes(script: Any, fake: FakeOrthanc) -> None:
    post = Post(status=422)
    one = notifier(script, post)
    fake.add("s1")

    one.work()
    one.work()
    refused = list(post.studies)
    fake.add("s1", series=(RADIOGRAPH | {"Instances": ["c"]},))
    one.work()

    assert refused == ["1.s1"]
    assert post.studies == ["1.s1", "1.s1"]


def test_a_deleted_study_is_forgotten(script: Any, fake: FakeOrthanc) -> None:
    post = Post(status=None)
    one = notifier(script, post)
    fake.add("s1")
    one.work()
    fake.studies.clear()
    fake.instances.clear()
    post.status = 202

    one.work()

    assert post.studies == []
    assert one.state.pending == ()


def test_the_first_start_leaves_what_the_archive_already_held(script: Any, fake: FakeOrthanc) -> None:
    fake.add("old")
    post = Post()
    one = script.Notifier(script.Settings(url=URL), post=post)

    one.work()
    fake.add("new")
    one.work()

    assert post.studies == ["1.new"]


def test_a_long_change_log_is_read_to_its_end(script: Any, fake: FakeOrthanc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "CHANGES_PER_PAGE", 2)
    post = Post()
    for number in range(5):
        fake.add(f"s{number}")

    notifier(script, post).work()

    assert post.studies == [f"1.s{number}" for number in range(5)]


def test_callbacks_only_start_wake_and_stop_the_thread(script: Any, fake: FakeOrthanc) -> None:
    fake.on_change(10, 4, "")
    fake.on_change(8, 1, "s1")
    fake.on_change(11, 4, "")

    assert set(fake.routes) == {"/sightline/status", "/sightline/studies/([-0-9a-f]+)/ground"}
    assert not [line for line in fake.log if "Error" in line]


def test_without_an_address_nothing_is_registered_but_the_status(fake: FakeOrthanc, request: Any) -> None:
    fake.configuration = {}
    request.getfixturevalue("script")

    assert fake.on_change is None
    assert fake.explorer == ""
    assert "nothing is sent" in fake.log[0]


@dataclass
class Output:
    """Orthanc's answer to one REST request."""

    status: int = 0
    content: dict[str, Any] = field(default_factory=dict)
    allowed: str = ""

    def AnswerBuffer(self, content: str, _media_type: str) -> None:  # noqa: N802 - Orthanc's name
        self.SendHttpStatus(200, content, len(content))

    def SendHttpStatus(self, status: int, content: str, length: int) -> None:  # noqa: N802 - Orthanc's name
        self.status, self.content = status, json.loads(content.encode()[:length])

    def SendMethodNotAllowed(self, allowed: str) -> None:  # noqa: N802 - Orthanc's name
        self.status, self.allowed = 405, allowed


def called(fake: FakeOrthanc, path: str, method: str) -> Output:
    """The answer of the script's route that *path* matches."""
    output = Output()
    route, groups = next((route, match.groups()) for route in fake.routes if (match := re.fullmatch(route, path)))
    fake.routes[route](output, path, method=method, groups=groups)
    return output


def test_the_routes_take_their_own_method_only(script: Any, fake: FakeOrthanc) -> None:
    assert called(fake, "/sightline/status", "GET").content["sightline"] == URL
    assert called(fake, "/sightline/status", "DELETE").allowed == "GET"
    assert called(fake, "/sightline/studies/ab-1/ground", "GET").allowed == "POST"


def test_a_person_can_ask_for_a_study_that_holds_a_radiograph(script: Any, fake: FakeOrthanc) -> None:
    fake.add("a1")
    fake.add("c7", series=({"Instances": ["c"], "MainDicomTags": {"Modality": "CT"}},))

    answers = {study: called(fake, f"/sightline/studies/{study}/ground", "POST") for study in ("a1", "c7", "dead")}

    assert {study: answer.status for study, answer in answers.items()} == {"a1": 202, "c7": 409, "dead": 404}
    assert all(answer.content["message"] for answer in answers.values())


def test_a_study_that_a_person_asks_for_is_told_again(script: Any, fake: FakeOrthanc) -> None:
    post = Post()
    one = notifier(script, post)
    fake.add("s1")
    one.work()

    assert one.ask("s1")
    one.work()
    one.work()

    assert post.studies == ["1.s1", "1.s1"]


def test_what_waits_is_bounded(script: Any, fake: FakeOrthanc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "MOST_PENDING", 4)
    monkeypatch.setattr(script, "CHANGES_PER_PAGE", 3)
    post = Post(status=None)
    one = notifier(script, post)
    for number in range(20):
        fake.add(f"s{number}")

    one.work()
    one.work()
    waiting = len(one.state.pending)
    post.status = 202
    for _ in range(10):
        one.work()

    assert waiting == 4
    assert sorted(post.studies) == sorted(f"1.s{number}" for number in range(20))
    assert [one.ask("x") for _ in range(script.MOST_ASKED + 1)][-2:] == [True, False]


def test_the_button_cannot_be_broken_out_of(script: Any) -> None:
    settings = SimpleNamespace(public_url="http://x/</script><script>", viewer=True)

    assert "</script>" not in script.buttons(settings)


def test_every_setting_is_explained() -> None:
    text = (ROOT / "orthanc" / "orthanc.json").read_text(encoding="utf-8")
    configuration = json.loads(text)
    readme = (ROOT / "orthanc" / "README.md").read_text(encoding="utf-8")
    settings = {name for name in (*configuration, *configuration["Sightline"]) if not name.startswith("_comment")}

    missing = {name for name in settings | set(re.findall(r"\$\{(ORTHANC_\w+)", text)) if f"`{name}`" not in readme}

    assert missing == set()
