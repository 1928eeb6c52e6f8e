"""The command ``sightline``. Imports what a command needs when it is asked for, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

from plugin import __version__
from plugin.errors import InputError, SightlineError, TransientError

DESCRIPTION = """Find each findings phrase of a chest X-ray report, ground it in the image, and write the pairs as
DICOM SEG and SR, FHIR resources and a page to hover. A research tool, not a medical device."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    The exit status (sysexits.h): 0 done; 65 the input cannot be used; 75 something outside is not available, try again;
    70 a defect of Sightline; 2 wrong usage.
    """
    parsed = _parser().parse_args(arguments)
    try:
        return int(_COMMANDS[parsed.command](parsed) or 0)
    except SightlineError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return 130


def _refuse(error: SightlineError) -> int:
    if isinstance(error, InputError):
        word, status = "refused", os.EX_DATAERR
    elif isinstance(error, TransientError):
        word, status = "try again later", os.EX_TEMPFAIL
    else:
        word, status = "defect of Sightline, please report it", os.EX_SOFTWARE
    print(f"sightline: {word}: {error}", file=sys.stderr)
    return status


def _moment(text: str) -> datetime:
    """An ISO 8601 time with its offset from UTC."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("give the offset from UTC too, for example 2026-11-21T09:30:00+00:00")
    return moment


def _shares(text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    return tuple(float(each) for each in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sightline", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"sightline {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    ground = commands.add_parser("ground", help="ground a study with its report")
    ground.add_argument("--study", nargs="+", type=Path, required=True, metavar="DIR_OR_FILES", help="the DICOM study")
    ground.add_argument("--report", type=Path, required=True, help="FHIR DiagnosticReport or Bundle (.json), or .txt")
    ground.add_argument("--out", type=Path, required=True, help="folder for the results; made when missing")
    ground.add_argument("--now", type=_moment, metavar="TIME", help="time stamp of the results; default: the source's")

    demo = commands.add_parser("demo", help="ground an example study on this machine alone")
    demo.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for example and results")
    demo.add_argument("--seed", type=int, default=18, help="which example")
    demo.add_argument("--serve", action="store_true", help="serve the page on 127.0.0.1 afterwards")
    demo.add_argument("--port", type=int, default=8042, help="port to serve on; 0 picks a free one")

    synth = commands.add_parser("synth", help="make synthetic studies with reports and truth")
    synth.add_argument("--out", type=Path, required=True)
    synth.add_argument("--seed", type=int, default=0, help="seed of the first study")
    synth.add_argument("--count", type=int, default=1, help="how many studies")

    prepare = commands.add_parser("prepare", help="make training data of images, phrases and regions in any known form")
    prepare.add_argument("source", metavar="SOURCE", help="path or URI; forms: docs/training-data.md")
    prepare.add_argument("--out", type=Path, required=True, help="folder for the data; made when missing")
    prepare.add_argument("--size", type=int, default=512, help="pixels of the longer side")
    prepare.add_argument("--split", type=_shares, default="0.7,0.15,0.15", help="training, validation, test")
    prepare.add_argument("--seed", type=int, default=0, help="of the split by patient")
    prepare.add_argument("--cache", type=Path, help="folder for what is streamed from a bucket")

    train = commands.add_parser("train", help="train the model; see docs/training.md")
    train.add_argument(
        "config", type=Path, metavar="CONFIG", help="a TOML file, for example model/recipes/shipped.toml"
    )
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value for a key")

    evaluate = commands.add_parser("evaluate", help="measure the model on phrases with boxes; see docs/evaluation.md")
    evaluate.add_argument("data", metavar="DATA", help="a .jsonl file, a data set's folder, or twin:START-STOP")
    evaluate.add_argument("--out", type=Path, required=True, help="folder for metrics.json and report.html")
    evaluate.add_argument("--weights", type=Path, metavar="DIR", help="weights to measure; default: the shipped ones")
    evaluate.add_argument("--source", help='only rows of this source, for example "RSNA 2018"')
    evaluate.add_argument("--finding", help='only rows of this finding, for example "Lung Opacity"')
    evaluate.add_argument("--held-out", action="store_true", help="only patients kept aside from all training")
    evaluate.add_argument("--lungs", type=Path, metavar="DIR", help="lung masks of the Hannover form")

    adopt = commands.add_parser("adopt", help="take over a published pair of encoders; see docs/encoders.md")
    adopt.add_argument("source", metavar="SOURCE", help="folder or address (hf://, gs://, s3://) with the files")
    adopt.add_argument("--encoder", choices=["biovil", "biovil-t"], required=True, help="which pair")
    adopt.add_argument("--out", type=Path, required=True, help="folder for weights and manifest")
    adopt.add_argument("--sha256", type=Path, metavar="FILE", help="what sha256sum writes for the files")

    stack = commands.add_parser("stack", help="Orthanc, FHIR, the service and OHIF on this machine, with an example")
    stack.add_argument("action", choices=("up", "down", "status"))
    stack.add_argument("--dir", type=Path, default=Path("stack-output"), help="folder for everything it keeps")
    stack.add_argument("--port", type=int, default=8042, help="of the service; the two after it are taken, too")

    _add_proving(commands)
    _add_running(commands)
    return parser


def _add_proving(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands about results that are there."""
    verify = commands.add_parser("verify", help="whether results belong together, and to image, report and model")
    verify.add_argument("paths", nargs="+", type=Path, metavar="DIR_OR_FILES", help="one result, and its images")
    verify.add_argument("--report", type=Path, help="the report that was read: FHIR (.json), or .txt")
    verify.add_argument("--weights", type=Path, metavar="DIR_OR_FILE", help="the weights that were used")
    verify.add_argument("--settings", action="store_true", help="compare with the settings of this machine, too")

    without = commands.add_parser("deidentify", help="images with results for research; see docs/privacy.md")
    without.add_argument("paths", nargs="+", type=Path, metavar="DIR_OR_FILES", help="results, and their images")
    without.add_argument("--out", type=Path, required=True, help="a new folder")
    without.add_argument("--key-file", type=Path, metavar="FILE", help="secret for pseudonyms; made when missing")
    without.add_argument("--keep-flagged", action="store_true", help="also images that may hold writing")


def _add_running(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands of a running site."""
    serve = commands.add_parser("serve", help="run the service; settings: docs/settings.md")
    serve.add_argument("--no-work", action="store_true", help="leave the jobs to `sightline work`")
    commands.add_parser("work", help="run a worker on the data folder of a service, without the service")
    keys = commands.add_parser("keys", help="keys for signing in at a FHIR server, and tokens for programs")
    keys.add_argument("action", choices=("new", "token"), help="a private key in a new file; a token for a program")
    keys.add_argument("file", metavar="FILE_OR_NAME", help="where to; only its owner can read it; or of the program")
    keys.add_argument("--role", choices=("service", "operator"), default="service", help="of the program")
    keys.add_argument("--kind", choices=("ec", "rsa"), default="ec", help="ec: ES384; rsa: RS384")
    old = commands.add_parser(
        "backfill", help="take the studies that the archive holds already, behind everything else"
    )
    old.add_argument("--from", dest="begin", type=date.fromisoformat, required=True, metavar="DAY", help="2026-01-01")
    old.add_argument("--to", dest="end", type=date.fromisoformat, required=True, metavar="DAY", help="included")
    old.add_argument("--modality", choices=("CR", "DX"), default="DX")
    old.add_argument("--rate", type=float, default=60.0, help="studies a minute at most")
    old.add_argument("--most-queued", type=int, default=100, help="wait while so many jobs wait")
    old.add_argument("--dry-run", action="store_true", help="count them, and do nothing")
    jobs = commands.add_parser("jobs", help="look at the jobs, do one again, let one go, hold them all")
    jobs.add_argument("action", choices=("list", "show", "replay", "cancel", "pause", "resume"))
    jobs.add_argument("job", nargs="*", metavar="JOB", help="ids of jobs, for show, replay and cancel")
    jobs.add_argument("--state", choices=("queued", "running", "done", "failed", "cancelled"), help="only these jobs")
    jobs.add_argument("--limit", type=int, default=50, help="how many are listed")
    trail = commands.add_parser("verify-audit", help="whether the audit trail is whole; docs/privacy.md")
    trail.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="default: audit in the data folder")
    trail.add_argument("--head", default="", metavar="HASH", help="of a record that is known to have been there")
    erase = commands.add_parser("erase", help="remove every trace of ours of a patient or a study; docs/privacy.md")
    whose = erase.add_mutually_exclusive_group(required=True)
    whose.add_argument("--patient", metavar="ID", help="the patient's identifier")
    whose.add_argument("--study", metavar="UID", help="one study")
    erase.add_argument("--archive", action="store_true", help="take our results back in archive and FHIR server, too")
    erase.add_argument("--dry-run", action="store_true", help="say what there is, and do nothing")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    decided = commands.add_parser("export-decisions", help="radiologists' decisions as training data")
    decided.add_argument("out", type=Path, metavar="OUT.jsonl", help="file to write; the images go beside it")
    decided.add_argument("--deidentify", action="store_true", help="for research elsewhere; see docs/privacy.md")
    decided.add_argument("--key-file", type=Path, metavar="FILE", help="secret for pseudonyms; made when missing")
    commands.add_parser("doctor", help="name what is missing or misconfigured, and how to mend it")


def _ground(parsed: argparse.Namespace) -> int:
    from plugin.commands.ground import run

    return run(paths=tuple(parsed.study), report_file=parsed.report, out=parsed.out, now=parsed.now)


def _demo(parsed: argparse.Namespace) -> int:
    from plugin.commands.demo import run

    return run(out=parsed.out, seed=parsed.seed, port=parsed.port if parsed.serve else None)


def _synth(parsed: argparse.Namespace) -> None:
    from plugin.commands.synth import run

    run(out=parsed.out, seed=parsed.seed, count=parsed.count)


def _prepare(parsed: argparse.Namespace) -> None:
    from plugin.commands.prepare import run

    run(
        source=parsed.source,
        out=parsed.out,
        size=parsed.size,
        split=parsed.split,
        seed=parsed.seed,
        cache=parsed.cache,
    )


def _train(parsed: argparse.Namespace) -> None:
    from plugin.commands.train import run

    run(parsed.config, overrides=tuple(parsed.set))


def _evaluate(parsed: argparse.Namespace) -> int:
    from model.evaluation.run import Choice
    from plugin.commands.evaluate import run

    choice = Choice(source=parsed.source, finding=parsed.finding, held_out=parsed.held_out, lungs=parsed.lungs)
    return run(data=parsed.data, out=parsed.out, weights=parsed.weights, choice=choice)


def _adopt(parsed: argparse.Namespace) -> None:
    from plugin.commands.adopt import run
    from plugin.settings import load_settings

    settings = load_settings()
    cache, offline = settings.data_dir / "models", settings.offline
    run(parsed.source, encoder=parsed.encoder, out=parsed.out, digests=parsed.sha256, cache=cache, offline=offline)


def _verify(parsed: argparse.Namespace) -> int:
    from plugin.commands.verify import run

    return run(tuple(parsed.paths), report=parsed.report, weights=parsed.weights, settings=parsed.settings)


def _stack(parsed: argparse.Namespace) -> int:
    from plugin.commands import stack

    action = {"up": stack.up, "down": stack.down, "status": stack.status}[parsed.action]
    return action(folder=parsed.dir, port=parsed.port)


def _serve(parsed: argparse.Namespace) -> int:
    from plugin.commands.serve import run

    return run(work=not parsed.no_work)


def _work(_: argparse.Namespace) -> int:
    from plugin.commands.work import run

    return run()


def _keys(parsed: argparse.Namespace) -> int:
    from plugin.access.caller import Role
    from plugin.commands.keys import new, token

    if parsed.action == "token":
        return token(parsed.file, role=Role(parsed.role))
    return new(Path(parsed.file), kind=parsed.kind)


def _backfill(parsed: argparse.Namespace) -> int:
    from plugin.backfill import Plan
    from plugin.commands.backfill import run

    plan = Plan(parsed.begin, parsed.end, parsed.modality)
    return run(plan, per_minute=parsed.rate, most_queued=parsed.most_queued, dry_run=parsed.dry_run)


def _jobs(parsed: argparse.Namespace) -> int:
    from plugin.commands.jobs import run

    return run(parsed.action, job_ids=tuple(parsed.job), state=parsed.state, limit=parsed.limit)


def _erase(parsed: argparse.Namespace) -> int:
    from plugin.commands.erase import run
    from plugin.erasing import target_of

    target = target_of(parsed.patient, parsed.study)
    return run(target, archive=parsed.archive, dry_run=parsed.dry_run, yes=parsed.yes)


def _export_decisions(parsed: argparse.Namespace) -> int:
    from plugin.commands.export_decisions import run

    return run(parsed.out, deidentify=parsed.deidentify, key_file=parsed.key_file)


def _verify_audit(parsed: argparse.Namespace) -> int:
    from plugin.commands.verify_audit import run
    from plugin.settings import load_settings
    from plugin.wiring import audit_folder

    return run(parsed.folder or audit_folder(load_settings()), head=parsed.head)


def _deidentify(parsed: argparse.Namespace) -> int:
    from plugin.commands.deidentify import run

    return run(tuple(parsed.paths), out=parsed.out, key_file=parsed.key_file, keep_flagged=parsed.keep_flagged)


def _doctor(_: argparse.Namespace) -> int:
    from plugin.commands.doctor import run

    return run()


_COMMANDS = {
    "stack": _stack,
    "ground": _ground,
    "demo": _demo,
    "synth": _synth,
    "prepare": _prepare,
    "train": _train,
    "evaluate": _evaluate,
    "adopt": _adopt,
    "verify": _verify,
    "deidentify": _deidentify,
    "serve": _serve,
    "work": _work,
    "keys": _keys,
    "backfill": _backfill,
    "jobs": _jobs,
    "export-decisions": _export_decisions,
    "doctor": _doctor,
    "erase": _erase,
    "verify-audit": _verify_audit,
}


if __name__ == "__main__":
    sys.exit(main())
