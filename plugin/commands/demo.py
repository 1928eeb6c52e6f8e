"""``sightline demo``: make an example study, ground it on the embedded default, and serve its page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from plugin.archive import sole_study_in
from plugin.commands.serve import serve
from plugin.commands.synth import run as synthesise
from plugin.flow import process
from plugin.settings import Settings
from plugin.table import print_evidence
from plugin.wiring import make_edges, make_tools


def run(*, out: Path, seed: int, port: int | None) -> int:
    """Ground the example of *seed* in folder *out*; serve its page on loopback when *port* is given."""
    console = Console()
    example = out / "example" / f"study-{seed}"
    if not example.is_dir():
        synthesise(out=example.parent, seed=seed, count=1)
    settings = Settings(data_dir=out, archive_dir=example, reports_dir=example, port=port or 0)
    study = sole_study_in((example,))
    with console.status("Loading the model"):
        tools = make_tools(settings)
    with console.status("Grounding"):
        evidence, written = process(study, edges=make_edges(settings), tools=tools, page_url=None)
    print_evidence(evidence, written, console=console)
    if port is None:
        return 0
    return serve(settings, tools=tools, at=f"/studies/{study.study_instance_uid}/radiologist")
