"""Runs inside Orthanc: tells Sightline about each study with radiographs that is new or has new instances.

Orthanc's own change log is the queue. A thread reads ``/changes`` from a cursor kept in Orthanc's database, waits until
the touched study is stable, and posts its UID. Callbacks only wake the thread: no network call ever stands in one.
What Sightline was told is kept as metadata of the study, a hash of the instances that are not Sightline's own. So the
objects that Sightline writes back cause nothing, and neither does a restart of either side.

Orthanc's study page gets buttons: ground this study, open its evidence, open it in the viewer.

Standard library and Orthanc's injected ``orthanc`` module only. Logs carry Orthanc's identifiers, never patient data.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import queue
import secrets
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import orthanc

# Numbers from 1024 on are free for users of Orthanc, both for properties of the database and for metadata.
CURSOR_PROPERTY = 25_025
TOLD_METADATA = 25_025
OWN_MANUFACTURER = "Sightline"
OWN_UID_ROOT = "2.25."
IMAGE_MODALITIES = frozenset({"CR", "DX"})
UNKNOWN_RESOURCE = 17
CHANGES_PER_PAGE = 500
# More than this is not taken out of the change log, nor asked for by people, before Sightline has taken some of it.
MOST_PENDING = 1000
MOST_ASKED = 100
SHORTEST_SECRET = 16
SHORTEST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0


@dataclass(frozen=True)
class Settings:
    """The private block "Sightline" of Orthanc's configuration.

    Parameters
    ----------
    url : where Orthanc reaches Sightline; "" switches the script off.
    public_url : where browsers reach it, for the buttons; "" means *url*.
    viewer : whether Sightline serves OHIF (SIGHTLINE_VIEWER_DIR), for a button that opens the study lit.
    secret : shared with Sightline (SIGHTLINE_EVENT_SECRET); signs every event when not "".
    token : sent as a Bearer token when not "", for a proxy before Sightline.
    modalities : a study is told when it has a series of one of these.
    backlog : on the very first start, take also what the archive already holds.
    """

    url: str = ""
    public_url: str = ""
    viewer: bool = False
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    modalities: frozenset[str] = frozenset({"CR", "DX", "RG"})
    timeout_s: float = 10.0
    reconcile_s: float = 300.0
    backlog: bool = False

    def __post_init__(self) -> None:
        for name, url in (("Url", self.url), ("PublicUrl", self.public_url)):
            parts = urllib.parse.urlsplit(url)
            if url and (parts.scheme not in {"http", "https"} or not parts.hostname):
                raise ValueError(f'Sightline.{name} must be an address such as "http://sightline:8042"')
        if self.timeout_s <= 0 or self.reconcile_s <= 0:
            raise ValueError("Sightline.TimeoutSeconds and Sightline.ReconcileSeconds must be more than 0")
        if self.secret and len(self.secret) < SHORTEST_SECRET:
            raise ValueError(f"Sightline.Secret must have at least {SHORTEST_SECRET} characters")


NAMES = (
    "Url", "PublicUrl", "Viewer", "Secret", "SecretFile", "Token", "TokenFile", "Modalities",
    "TimeoutSeconds", "ReconcileSeconds", "Backlog",
)  # fmt: skip


def settings_of(configuration: Mapping[str, Any]) -> Settings:
    """The script's settings in Orthanc's configuration.

    Raises
    ------
    ValueError
        If one cannot be, or if a user of Orthanc has an empty password: Orthanc then does not start.
    """
    if not all(configuration.get("RegisteredUsers", {"": "none registered"}).values()):
        raise ValueError("a user in RegisteredUsers has an empty password; set ORTHANC_PASSWORD")
    block = configuration.get("Sightline", {})
    unknown = set(block) - set(NAMES)
    if unknown:
        raise ValueError(f"unknown settings in the block Sightline: {', '.join(sorted(unknown))}")
    return Settings(
        url=block.get("Url", "").rstrip("/"),
        public_url=block.get("PublicUrl", "").rstrip("/"),
        viewer=str(block.get("Viewer", "")).lower() == "true",  # text, when it comes from the environment
        secret=secret_of(block, "Secret"),
        token=secret_of(block, "Token"),
        modalities=frozenset(block.get("Modalities", Settings.modalities)),
        timeout_s=float(block.get("TimeoutSeconds", 10)),
        reconcile_s=float(block.get("ReconcileSeconds", 300)),
        backlog=bool(block.get("Backlog", False)),
    )


def secret_of(block: Mapping[str, Any], name: str) -> str:
    """The value of *name*, or what stands in the file that *name*File names.

    Raises
    ------
    ValueError
        If that file cannot be read.
    """
    file = block.get(f"{name}File", "")
    if not file:
        return str(block.get(name, ""))
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"Sightline.{name}File cannot be read ({type(error).__name__})") from None


@dataclass(frozen=True)
class State:
    """How far the change log was read, and the studies (Orthanc identifiers) whose news Sightline has not taken yet."""

    since: int = 0
    pending: tuple[str, ...] = ()

    def with_pending(self, studies: Iterable[str]) -> State:
        """Also *studies*, each once, in order."""
        return replace(self, pending=tuple(dict.fromkeys((*self.pending, *studies))))

    def without(self, study: str) -> State:
        """No longer *study*."""
        return replace(self, pending=tuple(other for other in self.pending if other != study))

    def last(self, study: str) -> State:
        """*study* behind the others, so that one that cannot be delivered does not hold them up."""
        return replace(self, pending=(*self.without(study).pending, study))

    def to_json(self) -> str:
        return json.dumps({"since": self.since, "pending": self.pending})

    @classmethod
    def from_json(cls, text: str) -> State:
        content = json.loads(text)
        return cls(since=int(content["since"]), pending=tuple(content["pending"]))


def is_own(series: Mapping[str, Any]) -> bool:
    """Whether Sightline wrote this series: derived object, UID of the arc it uses, and its name as the manufacturer."""
    tags = series["MainDicomTags"]
    return (
        tags.get("Modality") not in IMAGE_MODALITIES
        and tags.get("Manufacturer") == OWN_MANUFACTURER
        and tags.get("SeriesInstanceUID", "").startswith(OWN_UID_ROOT)
    )


def fingerprint(all_series: Iterable[Mapping[str, Any]], modalities: frozenset[str]) -> str:
    """A hash of the study's instances without Sightline's own; "" when no series is of one of *modalities*."""
    others = [series for series in all_series if not is_own(series)]
    if not any(series["MainDicomTags"].get("Modality") in modalities for series in others):
        return ""
    instances = sorted(instance for series in others for instance in series["Instances"])
    return hashlib.sha256("\n".join(instances).encode()).hexdigest()


def delay_s(failures: int) -> float:
    """How long to wait after this many failures in a row: 1, 2, 4 ... seconds, at most a minute."""
    return min(LONGEST_DELAY_S, SHORTEST_DELAY_S * 2.0 ** min(failures - 1, 10))


class Answer(Enum):
    """What became of a post."""

    TAKEN = "taken"
    REFUSED = "refused"
    LATER = "later"


def answer_of(status: int) -> Answer:
    """Sightline refuses with 422 what it can never use; a wrong token, name or address can be mended, so: later."""
    if 200 <= status < 300:
        return Answer.TAKEN
    return Answer.REFUSED if status == http.client.UNPROCESSABLE_ENTITY else Answer.LATER


def signature(secret: str, body: bytes, *, now_s: int, nonce: str) -> str:
    """The header Sightline-Signature: HMAC-SHA256 over time, nonce and body, so that no event is forged or replayed."""
    digest = hmac.new(secret.encode(), f"{now_s}.{nonce}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={now_s},n={nonce},v1={digest}"


def post_study(settings: Settings, study_instance_uid: str) -> int:
    """POST {"study_instance_uid"} to Sightline's /events; the HTTP status. No proxy is used, no redirect followed.

    Raises
    ------
    OSError, http.client.HTTPException
        If Sightline does not answer in time.
    """
    url = urllib.parse.urlsplit(settings.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(url.hostname), url.port, timeout=settings.timeout_s)
    body = json.dumps({"study_instance_uid": study_instance_uid}).encode()
    headers = {"Content-Type": "application/json"}
    if settings.token:
        headers["Authorization"] = f"Bearer {settings.token}"
    if settings.secret:
        signed = signature(settings.secret, body, now_s=int(time.time()), nonce=secrets.token_hex(16))
        headers["Sightline-Signature"] = signed
    try:
        connection.request("POST", f"{url.path}/events", body=body, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def get(path: str) -> Any:
    """An answer of Orthanc's own REST interface, or None for a resource that is gone."""
    try:
        return json.loads(orthanc.RestApiGet(path))
    except orthanc.OrthancException as error:
        if error.args[0] == UNKNOWN_RESOURCE:
            return None
        raise


def told(study: str) -> str:
    """The fingerprint Sightline was last told of; "" when never."""
    try:
        return orthanc.RestApiGet(f"/studies/{study}/metadata/{TOLD_METADATA}").decode()
    except orthanc.OrthancException:
        return ""


class Notifier:
    """The thread that reads the change log and tells Sightline; *post* is :func:`post_study` or a test's stand-in."""

    def __init__(self, settings: Settings, post: Callable[[Settings, str], int] = post_study) -> None:
        self.settings = settings
        self.failures = 0
        self.counts = dict.fromkeys(Answer, 0)
        self.state = State()
        self._post = post
        self._asked: queue.Queue[str] = queue.Queue(MOST_ASKED)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sightline", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def ask(self, study: str) -> bool:
        """Tell of *study* again, also without news, since a person asks; False when too many were asked for."""
        try:
            self._asked.put_nowait(study)
        except queue.Full:
            return False
        self.wake()
        return True

    def stop(self) -> None:
        """Ask the thread to end; one that waits for Sightline's answer is given two seconds."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.work()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever Orthanc answers
                self.failures += 1
                orthanc.LogError(f"Sightline: {type(error).__name__} in the notification thread")
            self._wake.wait(delay_s(self.failures) if self.failures else self.settings.reconcile_s)
            self._wake.clear()

    def work(self) -> None:
        """Read what is new in the change log, then tell Sightline of every stable study, until it does not answer."""
        self.state = self._load()
        self._take_asked()
        self._read_changes()
        for study in self.state.pending:
            if self._stopping.is_set():
                return
            answer = self._deliver(study)
            if answer is Answer.LATER:
                self.failures += 1
                self._save(self.state.last(study))
                return
        self.failures = 0

    def _load(self) -> State:
        text = orthanc.GetGlobalProperty(CURSOR_PROPERTY, "")
        if text:
            return State.from_json(text)
        if self.settings.backlog:
            return State()
        return State(since=get("/changes?last")["Last"])

    def _save(self, state: State) -> None:
        self.state = state
        orthanc.SetGlobalProperty(CURSOR_PROPERTY, state.to_json())

    def _take_asked(self) -> None:
        asked = [self._asked.get_nowait() for _ in range(self._asked.qsize())]
        for study in asked:
            if told(study):
                orthanc.RestApiDelete(f"/studies/{study}/metadata/{TOLD_METADATA}")
        if asked:
            self._save(self.state.with_pending(asked))

    def _read_changes(self) -> None:
        while len(self.state.pending) < MOST_PENDING:
            page = get(f"/changes?since={self.state.since}&limit={CHANGES_PER_PAGE}")
            instances = dict.fromkeys(c["ID"] for c in page["Changes"] if c["ChangeType"] == "NewInstance")
            parents = (get(f"/instances/{instance}/study") for instance in instances)
            studies = dict.fromkeys(parent["ID"] for parent in parents if parent is not None)
            self._save(replace(self.state.with_pending(studies), since=page["Last"]))
            if page["Done"]:
                return

    def _deliver(self, study: str) -> Answer | None:
        """Tell Sightline of one study; None when there is nothing to tell (now: it is not stable yet)."""
        description, all_series = get(f"/studies/{study}"), get(f"/studies/{study}/series")
        if description is None or all_series is None:
            self._save(self.state.without(study))
            return None
        if not description["IsStable"]:
            return None
        news = fingerprint(all_series, self.settings.modalities)
        if not news or news == told(study):
            self._save(self.state.without(study))
            return None
        answer = self._ask(study, description["MainDicomTags"]["StudyInstanceUID"])
        if answer is not Answer.LATER:
            orthanc.RestApiPut(f"/studies/{study}/metadata/{TOLD_METADATA}", news.encode())
            self._save(self.state.without(study))
        return answer

    def _ask(self, study: str, study_instance_uid: str) -> Answer:
        try:
            status = self._post(self.settings, study_instance_uid)
        except (OSError, http.client.HTTPException) as error:
            answer, why = Answer.LATER, type(error).__name__
        else:
            answer, why = answer_of(status), f"HTTP {status}"
        self.counts[answer] += 1
        log = orthanc.LogInfo if answer is Answer.TAKEN else orthanc.LogWarning
        log(f"Sightline: study {study} {answer.value} ({why})")
        return answer

    def status(self) -> dict[str, Any]:
        """What /sightline/status answers."""
        return {
            "sightline": self.settings.url or "off",
            "answering": self.failures == 0,
            "last_change": self.state.since,
            "pending": len(self.state.pending),
            **{answer.value: count for answer, count in self.counts.items()},
        }


def ground(notifier: Notifier, study: str) -> tuple[int, dict[str, str]]:
    """What POST /sightline/studies/{id}/ground answers: HTTP status, and a sentence for the person who asks."""
    all_series = get(f"/studies/{study}/series")
    if all_series is None:
        return http.client.NOT_FOUND, {"message": "There is no such study."}
    if not fingerprint(all_series, notifier.settings.modalities):
        return http.client.CONFLICT, {"message": "This study holds no radiograph."}
    if not notifier.ask(study):
        return http.client.SERVICE_UNAVAILABLE, {"message": "Too many studies are waiting; ask again later."}
    return http.client.ACCEPTED, {"message": "Asked for; the evidence comes when the study is grounded."}


BUTTONS = """
(function(sightline, viewer) {
  var study = function() { return encodeURIComponent($.mobile.pageData.uuid); };
  function button(id, text, icon) {
    return $('<a data-role="button" data-theme="b"></a>')
      .attr({id: id, 'data-icon': icon, href: '#', target: '_blank'}).text(text)
      .insertBefore($('#study-delete').parent().parent());
  }
  $('#study').live('pagebeforecreate', function() {
    button('sightline-ground', 'Ground this study', 'star').click(function(event) {
      event.preventDefault();
      $('#sightline-said').text('');
      $.ajax({url: '../sightline/studies/' + study() + '/ground', type: 'POST', data: '', complete: function(answer) {
        var said = /^[{]/.test(answer.responseText) ? $.parseJSON(answer.responseText).message : '';
        $('#sightline-said').text(said || 'Orthanc does not take this now; ask again later.');
      }});
    });
    button('sightline-evidence', 'Open evidence', 'search');
    if (viewer) button('sightline-viewer', 'Open in viewer', 'grid');
    $('<p id="sightline-said" role="status"></p>').insertBefore($('#study-delete').parent().parent());
  });
  $('#study').live('pagebeforeshow', function() {
    if (!$.mobile.pageData) return;
    $('#sightline-said').text('');
    $.getJSON('../studies/' + study(), function(found) {
      var page = sightline + '/studies/' + encodeURIComponent(found.MainDicomTags.StudyInstanceUID);
      $('#sightline-evidence').attr('href', page + '/radiologist');
      $('#sightline-viewer').attr('href', page + '/viewer');
    });
  });
})(%s, %s);
"""


def buttons(settings: Settings) -> str:
    """JavaScript for Orthanc Explorer: the buttons on the page of a study."""
    # A configuration that holds "</script>" must not end the script.
    address = json.dumps(settings.public_url or settings.url).replace("<", "\\u003c")
    return BUTTONS % (address, json.dumps(settings.viewer))


def on_change_of(notifier: Notifier) -> Callable[[int, int, str], None]:
    """What Orthanc calls on each change: it starts, wakes and ends the thread, and no more."""

    def on_change(change: int, _level: int, _resource: str) -> None:
        if change == orthanc.ChangeType.ORTHANC_STARTED:
            notifier.start()
        elif change == orthanc.ChangeType.STABLE_STUDY:
            notifier.wake()
        elif change == orthanc.ChangeType.ORTHANC_STOPPED:
            notifier.stop()

    return on_change


def route(method: str, answer: Callable[..., tuple[int, Any]]) -> Callable[..., None]:
    """A route that takes *method* alone and says as JSON what *answer* gives for the groups of its address."""

    def respond(output: Any, _uri: str, **request: Any) -> None:
        if request["method"] != method:
            output.SendMethodNotAllowed(method)
            return
        status, content = answer(*request.get("groups", ()))
        text = json.dumps(content)
        if status == http.client.OK:
            output.AnswerBuffer(text, "application/json")
        else:
            output.SendHttpStatus(status, text, len(text))

    return respond


def main() -> None:
    """Register everything with Orthanc."""
    settings = settings_of(json.loads(orthanc.GetConfiguration()))
    notifier = Notifier(settings)
    orthanc.RegisterRestCallback("/sightline/status", route("GET", lambda: (http.client.OK, notifier.status())))
    if not settings.url:
        orthanc.LogWarning("Sightline: no Url is set; nothing is sent")
        return
    if not settings.secret:
        orthanc.LogWarning(
            "Sightline: no Secret is set, so events are not signed; only a loopback Sightline takes them"
        )
    orthanc.RegisterRestCallback(
        "/sightline/studies/([-0-9a-f]+)/ground", route("POST", lambda study: ground(notifier, study))
    )
    orthanc.RegisterOnChangeCallback(on_change_of(notifier))
    orthanc.ExtendOrthancExplorer(buttons(settings))


main()
