"""``sightline verify``: whether results belong together, and to the image, report, model and settings they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from plugin.chain import dicom, evidence, fhir
from plugin.chain.checks import Check, Verdict
from plugin.chain.material import Material, material_of
from plugin.chain.rebuilt import Rebuilt
from plugin.errors import InputError
from plugin.fhir.reading import report_from_file
from plugin.settings import load_settings
from plugin.wiring import pdf_reader

STYLES = {Verdict.HOLDS: None, Verdict.FAILS: "bold red", Verdict.OPEN: "dim"}


@dataclass(frozen=True, slots=True)
class Given:
    """What results are held to, as far as it is given.

    Parameters
    ----------
    report_texts : of the reports in a file.
    weights_sha256s : what the results may name as their weights.
    settings_sha256 : of the settings that change results.
    """

    report_texts: tuple[str, ...] | None = None
    weights_sha256s: frozenset[str] | None = None
    settings_sha256: str | None = None


def run(paths: tuple[Path, ...], *, report: Path | None, weights: Path | None, settings: bool) -> int:
    """Print one row per comparison; 0 when nothing contradicts, else 1.

    Raises
    ------
    InputError
        If a file cannot be read, or the files are not those of one result.
    """
    material = material_of((str(path), path.read_bytes()) for path in _files(paths))
    given = Given(
        None
        if report is None
        else tuple(each.text for each in report_from_file(report, read_pdf=pdf_reader(load_settings()))),
        None if weights is None else _weights(weights),
        load_settings().results_sha256 if settings else None,
    )
    checks = tuple(examine(material, given))
    console = Console()
    console.print(_table(checks))
    failures = sum(check.verdict is Verdict.FAILS for check in checks)
    still = sum(check.verdict is Verdict.OPEN for check in checks)
    console.print(
        f"{failures} of {len(checks)} comparisons do not hold."
        if failures
        else f"All that was compared holds; {still} not checked."
    )
    return 1 if failures else 0


def examine(material: Material, given: Given) -> Iterator[Check]:
    """Every comparison that *material* allows; pure."""
    within = tuple(evidence.within(material.document))
    yield from within
    yield from evidence.against_report(material.document, given.report_texts)
    yield from evidence.against_weights(material.document, given.weights_sha256s)
    yield from evidence.against_settings(material.document, given.settings_sha256)
    yield from evidence.against_sources(material)
    yield from dicom.same_patient(material)
    rebuilt = Rebuilt(material.document)
    try:
        rebuilt.phrases, rebuilt.key  # noqa: B018 - the document may say what cannot be, as *within* told
    except ValueError:
        return
    material, others = dicom.of_this_result(material, rebuilt)
    yield from (Check(name, Verdict.OPEN, "it is of another result") for name in others)
    yield from dicom.segmentations(material, rebuilt)
    yield from dicom.structured_report(material, rebuilt)
    yield from fhir.resources(material, rebuilt)
    if not material.pages:
        yield Check("evidence.html", Verdict.OPEN, "it was not given")


def _files(paths: tuple[Path, ...]) -> Iterable[Path]:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist")
        yield from sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else (path,)


def _weights(path: Path) -> frozenset[str]:
    from model.weights import WeightsError, digests_of

    try:
        return digests_of(path)
    except WeightsError as error:
        raise InputError(str(error)) from error


def _table(checks: tuple[Check, ...]) -> Table:
    table = Table(Column("what", overflow="fold"), "verdict", "in words", title="sightline verify")
    for check in checks:
        table.add_row(check.item, check.verdict, check.words, style=STYLES[check.verdict])
    return table
