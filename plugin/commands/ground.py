"""``sightline ground``: a study and its report from files, results into a folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rich.console import Console

from plugin.archive import folder_archive, sole_study_in
from plugin.fhir.reading import report_from_file
from plugin.flow import Tools, ground_given, outputs_of
from plugin.results import write_results
from plugin.settings import load_settings
from plugin.table import print_evidence
from plugin.values import Evidence
from plugin.wiring import make_tools, pdf_reader


def run(*, paths: tuple[Path, ...], report_file: Path, out: Path, now: datetime | None) -> int:
    """Ground the one study among *paths* with *report_file*, write everything into *out*, and print what was found."""
    console = Console()
    settings = load_settings()
    with console.status("Reading study and report"):
        reports = report_from_file(report_file, read_pdf=pdf_reader(settings))
        study = sole_study_in(paths)
        archive = folder_archive(paths)
    with console.status("Loading the model"):
        tools = make_tools(settings)
    with console.status("Grounding"):
        evidence = ground_given(archive, study, reports, tools=tools, now=now)
        write_and_print(evidence, out, tools=tools, console=console)
    return 0


def write_and_print(evidence: Evidence, out: Path, *, tools: Tools, console: Console) -> None:
    """Write the results of *evidence* into *out*, all or nothing, and say what was found."""
    outputs = outputs_of(evidence, with_pictures=tools.pictures, with_heatmaps=tools.heatmaps)
    written = write_results(out, outputs.files)
    print_evidence(evidence, written, console=console)
