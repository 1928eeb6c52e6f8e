"""Mutated DICOM files: whatever comes, by request, by folder or as metadata of an archive, is answered or refused."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from builders import chest, gradient, part10
from evidence import CARD
from fastapi.testclient import TestClient
from fuzzing import Random, cases, fuzz, mutated_dicom, mutated_json
from memory import Site
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from model.geometry import Letterbox, Orientation
from model.values import Grounding, Heatmap, Query, State
from nlp.phrases import Reading
from plugin.archive import DicomwebArchive, folder_archive, index_of
from plugin.dicom.pixels import radiograph_of
from plugin.errors import SightlineError
from plugin.ports import Step, independent
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.values import StudyRef

SMALL = 700_000
ANSWERS = {200, 413, 422}


class Grounder:
    """Finds an empty map for everything: what is tested ends before the model."""

    card = CARD

    def ground(self, pixels: Any, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        assert np.isfinite(pixels).all()
        assert pixels.min() >= 0
        assert pixels.max() <= 1
        heatmap = Heatmap(np.zeros((4, 4), np.float32), Letterbox(*pixels.shape, orientation))
        return tuple(Grounding(query, State.NOT_FOUND, 0.1, (), heatmap, "nothing") for query in queries)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    site = Site(tmp_path / "data")
    services = Services(
        queue=site.queue,
        results=ResultFolder(tmp_path / "results"),
        work=independent(Step("ground", lambda _: None)),
        intake=site.intake,
        grounder=Grounder,  # type: ignore[arg-type]
        read_report=lambda _: Reading(()),
        read_dicom=radiograph_of,
    )
    with TestClient(create_app(services, work=False), base_url="http://127.0.0.1") as client:
        yield client


def rich() -> Dataset:
    """A radiograph with everything in its header that the reader looks at."""
    table = Dataset()
    table.add_new(0x00283002, "US", [4096, 0, 12])  # LUTDescriptor
    table.add_new(0x00283006, "US", list(range(4096)))  # LUTData
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399348003", "SCT", "AP"
    return chest(
        gradient(64, 72),
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Müller^Jörg",
        VOILUTSequence=[table],
        ViewCodeSequence=[code],
        RescaleSlope="1",
        RescaleIntercept="0",
        WindowCenter=["2048", "1000"],
        WindowWidth=["4096", "500"],
        PixelPaddingValue=0,
        PresentationLUTShape="IDENTITY",
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge="2",
        ShutterRightVerticalEdge="70",
        ShutterUpperHorizontalEdge="2",
        ShutterLowerHorizontalEdge="60",
        PixelSpacing=["0.14", "0.14"],
        ImagerPixelSpacing=["0.14", "0.14"],
        NumberOfFrames="1",
    )


def seeds(folder: Path, shared: Path) -> tuple[bytes, ...]:
    """Radiographs in every compression, and other projects' files beside the checkout where they are."""
    compressed = []
    for syntax in (JPEG2000Lossless, RLELossless):
        dataset = chest(gradient(64, 72))
        dataset.compress(syntax)
        compressed.append(part10(dataset))
    (folder / "plain").write_bytes(part10(chest(gradient(64, 72))))
    for name in ("JPEGLosslessProcess14_1", "JPEGLSLossless"):
        reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
        reader.SetFileName(str(folder / "plain"))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(folder / name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        compressed.append((folder / name).read_bytes())
    implicit = rich()
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    own = (part10(rich()), part10(chest()), part10(implicit), *compressed)
    files = sorted((shared / "data" / "dicom" / "files").rglob("*.dcm")) if shared.is_dir() else []
    others = tuple(file.read_bytes() for file in files if file.stat().st_size < SMALL)
    return (*own * max(1, 2 * len(others) // len(own)), *others)  # two of three are ours


def mutated_seed(random: Random, known: tuple[bytes, ...]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, about the seeds
        try:
            return mutated_dicom(random.choice(known), random)
        except Exception:  # noqa: BLE001 - a seed that pydicom itself cannot take apart
            return mutated_seed(random, known[:2])


@pytest.mark.filterwarnings("error")
def test_a_mutated_dicom_file_is_answered_or_refused(client: TestClient, tmp_path: Path, beside: Path) -> None:
    known = seeds(tmp_path, beside)
    file = tmp_path / "study" / "image.dcm"
    file.parent.mkdir()

    def case(random: Random) -> bool:
        content = mutated_seed(random, known)
        said = client.post("/predict", json={"text": "effusion", "image": base64.b64encode(content).decode()})
        assert said.status_code in ANSWERS, said.text
        assert said.status_code == 200 or said.headers["content-type"] == "application/problem+json"

        file.write_bytes(content)
        for image in index_of((file,)).files:
            archive = folder_archive((file.parent,))
            try:
                archive.describe(image.study)
                archive.results(image.study)
                archive.read(image)
            except SightlineError:
                continue
        return said.status_code == 200

    fuzz("DICOM files", cases(60), case)


class Answers:
    """An archive that answers *metadata* to whatever it is asked."""

    def __init__(self, metadata: Any) -> None:
        self.metadata = metadata

    def retrieve_study_metadata(self, study_instance_uid: str) -> Any:
        return self.metadata

    def search_for_studies(self, *, offset: int | None = None, **_: Any) -> Any:
        return self.metadata if not offset else []


@pytest.mark.filterwarnings("error")
def test_mutated_metadata_of_an_archive_are_read_or_refused() -> None:
    told = rich().to_json_dict()
    told["00283010"]["Value"][0]["00283006"]["Value"] = [0, 4095]
    seed = json.loads(json.dumps([{tag: element for tag, element in told.items() if tag != "7FE00010"}] * 2))
    study = StudyRef(seed[0]["0020000D"]["Value"][0])

    def case(random: Random) -> bool:
        archive = DicomwebArchive(Answers(mutated_json(seed, random)))  # type: ignore[arg-type]
        found = False
        for ask in (archive.describe, archive.results, lambda study: archive.search(study=study)):
            try:
                found = bool(ask(study)) or found
            except SightlineError:
                continue
        return found

    fuzz("DICOM metadata", cases(80), case)
