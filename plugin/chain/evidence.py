"""An evidence document before itself, and before what it was made from: text, pixels, weights, settings."""

from __future__ import annotations

from collections.abc import Iterator

from model.values import Region
from plugin.anchors import context_of
from plugin.chain.checks import Check, Verdict, compared
from plugin.chain.material import DicomFile, Material
from plugin.chain.rebuilt import Rebuilt
from plugin.dicom.header import text
from plugin.dicom.pixels import radiograph_of
from plugin.errors import InputError
from plugin.identity import sha256_hex
from plugin.page.document import EvidenceDocument, ImagePart, PhrasePart, region_part

ITEM = "evidence.json"


def within(document: EvidenceDocument) -> Iterator[Check]:
    """Whether the document agrees with itself."""
    yield from compared(ITEM, "text, phrases and regions agree with each other", _contradictions(document))


def _contradictions(document: EvidenceDocument) -> Iterator[str]:
    if sha256_hex(document.report.text.encode()) != document.provenance.report_sha256:
        yield "the report's text is not the one that was read: its hash differs"
    if document.provenance.model.presence_threshold is None:
        yield "it is of an earlier release, which did not state all that its results were made with"
    uids = [phrase.tracking_uid for phrase in document.phrases]
    if len(set(uids)) != len(uids):
        yield "two phrases share a tracking UID"
    images = {image.sop_instance_uid: image for image in document.images}
    for number, phrase in enumerate(document.phrases, start=1):
        if problem := _misquoted(phrase, document.report.text):
            yield f"phrase {number}: {problem}"
        yield from (f"phrase {number}: {problem}" for problem in _misplaced(phrase, images))
    try:
        _ = Rebuilt(document).phrases, Rebuilt(document).key
    except ValueError as error:
        yield f"it says what cannot be: {error}"


def _misquoted(phrase: PhrasePart, report: str) -> str:
    before = report[: phrase.start]
    if report[phrase.start : phrase.end] != phrase.text:
        return "its words do not stand in the report where it says"
    if phrase.start_utf16 != len(before.encode("utf-16-le", "surrogatepass")) // 2:
        return "its place in UTF-16 is another one"
    around = context_of(report, phrase.start, phrase.end)
    return "" if (phrase.prefix, phrase.suffix) == around else "the text around it differs"


def _misplaced(phrase: PhrasePart, images: dict[str, ImagePart]) -> Iterator[str]:
    for placement in phrase.placements:
        image = images.get(placement.sop_instance_uid)
        if image is None:
            yield "it is placed on an image that the document does not list"
            continue
        for region in placement.regions:
            size = {"rows": image.rows, "columns": image.columns, "spacing_mm": image.spacing_mm}
            if region != region_part(Region(region.outline, region.probability), **size):  # type: ignore[arg-type]
                yield "box or area of a region are not those of its outline"


def against_sources(material: Material) -> Iterator[Check]:
    """Whether the images given are the ones that were looked at, to the pixel."""
    by_uid = {file.uid: file for file in material.sources}
    for image in material.document.images:
        item = f"image {image.sop_instance_uid}"
        if image.sop_instance_uid in by_uid:
            yield from compared(item, "its pixels are those that were read", _differs(image, by_uid, material.document))
        else:
            yield Check(item, Verdict.OPEN, "it was not given; name its file, too")
    study = material.document.study_instance_uid
    for file in material.sources:
        if text(file.dataset, "StudyInstanceUID") != study:
            yield Check(file.name, Verdict.FAILS, "it is of another study")


def _differs(image: ImagePart, files: dict[str, DicomFile], document: EvidenceDocument) -> Iterator[str]:
    file = files[image.sop_instance_uid]
    try:
        read = radiograph_of(file.content)
    except InputError:
        yield "it cannot be read"
        return
    if read.source_sha256 != image.source_sha256:
        yield "its pixels are not those that were read: their hash differs"
    if read.pixels.shape != (image.rows, image.columns):
        yield "its size is another one"
    if (read.ref.study.study_instance_uid, read.ref.series_instance_uid, read.ref.sop_class_uid) != (
        document.study_instance_uid,
        image.series_instance_uid,
        image.sop_class_uid,
    ):
        yield "its study, series or kind is another one"
    if read.spacing_mm != image.spacing_mm:
        yield "its pixel spacing is another one"


def against_report(document: EvidenceDocument, texts: tuple[str, ...] | None) -> Iterator[Check]:
    """Whether one of *texts* (of a report that was given) is the text that was read."""
    if texts is None:
        yield Check("report text", Verdict.OPEN, "no report was given; name its file with --report")
        return
    found = document.provenance.report_sha256 in {sha256_hex(each.encode()) for each in texts}
    yield from compared("report text", "it is the text that was read", [] if found else ["it is another text"])


def against_weights(document: EvidenceDocument, sha256s: frozenset[str] | None) -> Iterator[Check]:
    """Whether the weights whose hash is one of *sha256s* made the results."""
    if sha256s is None:
        yield Check("model weights", Verdict.OPEN, "none were given; name their folder or file with --weights")
        return
    found = document.provenance.model.weights_sha256 in sha256s
    yield from compared("model weights", "they are those that were used", [] if found else ["they are other weights"])


def against_settings(document: EvidenceDocument, sha256: str | None) -> Iterator[Check]:
    """Whether settings with the hash *sha256* give these results."""
    if sha256 is None:
        yield Check("settings", Verdict.OPEN, "compare with the settings of this machine by --settings")
        return
    same = document.provenance.settings_sha256 == sha256
    problem = "those of this machine differ in one that changes results"
    yield from compared("settings", "they are those that were used", [] if same else [problem])
