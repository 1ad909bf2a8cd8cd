"""The command replay, and the check of ``results --check``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlbench.cli.options import takes
from dlbench.cli.studies import print_json, study_folder
from dlbench.errors import InputError

if TYPE_CHECKING:
    from dlbench.studies.replay import Replay


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """The flags of ``replay``."""

    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A study's folder, its name in runs/, or an exported study."),
    ]
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's id, or the beginning of it.")]
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="Your own model, to allow that the trial runs its code."
        ),
    ] = None
    data_dir: Annotated[
        str | None, typer.Option("--data-dir", metavar="DIR", help="Folder of original data files.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


@takes(ReplayOptions)
def replay(options: ReplayOptions) -> int:
    """Train a recorded trial again and compare every bit.

    Exit code 0: identical; 1: different.
    """
    from dlbench.report import terminal
    from dlbench.spec import registry

    if options.model:
        registry.resolve_model(options.model)
    with terminal.waiting("training the trial again", quiet=options.as_json):
        done = _again(options)
    if options.as_json:
        record: dict[str, Any] = {
            "trial": done.recorded.id,
            "identical": done.identical,
            "results": [vars(difference) for difference in done.results],
            "environment": [vars(difference) for difference in done.environment],
        }
        print_json(record)
        return 0 if done.identical else 1
    lines = [f"{'IDENTICAL' if done.identical else 'DIFFERENT'}: trial {done.recorded.id}"]
    if done.identical:
        lines.append(f"parameters {done.again.params_sha256}, history {done.again.history_sha256}")
    else:
        lines.append(f"first difference: {done.results[0]} ({len(done.results)} in all)")
    changed = [f"  {difference}" for difference in done.environment]
    lines.append("\n".join(["environment, changed:", *changed]) if changed else "environment: unchanged")
    terminal.text("\n".join(lines))
    return 0 if done.identical else 1


def _again(options: ReplayOptions) -> Replay:
    from dlbench.report import exports
    from dlbench.studies.replay import find, replay, retrain

    folder = Path(options.study)
    if not exports.is_export(folder):
        return replay(study_folder(options.study), options.trial, options.data_dir)
    kept = exports.read(folder)
    trials = kept.result.trials if kept.result else ()
    if not trials:
        raise InputError(f"{folder} holds only notes; name a study with trials")
    return retrain(find(trials, options.trial, folder), kept.manifest, options.data_dir)


def check(folder: Path) -> int:
    """Print everything that is damaged in a study; returns the exit code."""
    from dlbench.report import terminal
    from dlbench.storage.audit import audit

    problems = audit(folder)
    terminal.text("\n".join(problems) if problems else f"{folder} is undamaged")
    return 1 if problems else 0
