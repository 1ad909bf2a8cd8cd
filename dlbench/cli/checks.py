"""The command replay, and the check of ``results --check``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlbench.cli.options import DataDir, Json, takes
from dlbench.cli.studies import print_json, study_folder
from dlbench.errors import InputError
from dlbench.spec.seeds import RANDOM, drawn

if TYPE_CHECKING:
    from dlbench.studies.replay import Replay


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """The flags of ``replay``."""

    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A study's folder, its name in runs/, or an exported study."),
    ]
    trial: Annotated[
        str | None, typer.Argument(metavar="[TRIAL]", help="A trial's id, or the beginning of it.")
    ] = None
    sample: Annotated[
        str | None, typer.Option("--sample", metavar="N", help="Train N trials again, drawn at random.")
    ] = None
    seed: Annotated[
        str, typer.Option("--seed", metavar="SEED", help="With --sample: the seed of the draw.")
    ] = RANDOM
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="Your own model, to allow that the trial runs its code."
        ),
    ] = None
    optimizer: Annotated[
        str | None, typer.Option("--optimizer", metavar="NAME", help="Likewise your own optimizer.")
    ] = None
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="NAME", help="Likewise your own schedule.")
    ] = None
    criterion: Annotated[
        str | None, typer.Option("--criterion", metavar="NAME", help="Likewise your own loss.")
    ] = None
    transform: Annotated[
        str | None, typer.Option("--transform", metavar="NAME", help="Likewise your own transforms.")
    ] = None
    selection_metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="Likewise your own metric.")
    ] = None
    data_dir: DataDir = None
    as_json: Json = False

    def numbers(self) -> tuple[int, int] | None:
        """How many trials to draw, and the seed of the draw; ``None`` where one trial is named.

        Raises:
            InputError: both or neither of them is given, or one is not a number.
        """
        if (self.trial is None) == (self.sample is None):
            raise InputError("replay takes one TRIAL by its id, or --sample N; give one of them")
        if self.sample is None:
            return None
        if not re.fullmatch("[0-9]{1,6}", self.sample):
            raise InputError.must_be("sample", "a positive number of trials", self.sample)
        (seed,) = drawn([self.seed])
        if not re.fullmatch("[0-9]{1,10}", str(seed)):
            raise InputError.must_be("seed", f"a whole number, or {RANDOM!r}", seed)
        return int(self.sample), int(seed)


@takes(ReplayOptions)
def replay(options: ReplayOptions) -> int:
    """Train a recorded trial again, or several drawn at random, and compare every bit.

    Exit code 0: identical; 1: different.
    """
    from dlbench.report import terminal
    from dlbench.spec.trial import PARTS

    numbers = options.numbers()
    for field, parts in PARTS.items():
        if name := getattr(options, field, None):
            parts.resolve(name)
    what = "the trial" if numbers is None else f"{numbers[0]} trials, drawn with seed {numbers[1]},"
    with terminal.waiting(f"training {what} again", quiet=options.as_json):
        replays, among = _again(options, numbers)
    different = sum(not done.identical for done in replays)
    if options.as_json:
        records = [_record(done) for done in replays]
        drawn_from = {"sample": len(replays), "of": among, "seed": numbers[1]} if numbers else {}
        print_json({**drawn_from, "identical": not different, "trials": records} if numbers else records[0])
        return 1 if different else 0
    lines = [_in_words(done) for done in replays]
    changed = [f"  {difference}" for difference in replays[0].environment]
    lines.append("\n".join(["environment, changed:", *changed]) if changed else "environment: unchanged")
    if numbers:
        lines.append(
            f"{len(replays) - different} of {len(replays)} trials identical, drawn from {among} with seed {numbers[1]}"
        )
    terminal.text("\n".join(lines))
    return 1 if different else 0


def _record(done: Replay) -> dict[str, Any]:
    return {
        "trial": done.recorded.id,
        "identical": done.identical,
        "results": [vars(difference) for difference in done.results],
        "environment": [vars(difference) for difference in done.environment],
    }


def _in_words(done: Replay) -> str:
    if done.identical:
        digests = f"parameters {done.again.params_sha256}, history {done.again.history_sha256}"
        return f"IDENTICAL: trial {done.recorded.id}\n{digests}"
    first = f"first difference: {done.results[0]} ({len(done.results)} in all)"
    return f"DIFFERENT: trial {done.recorded.id}\n{first}"


def _again(options: ReplayOptions, numbers: tuple[int, int] | None) -> tuple[list[Replay], int]:
    """The replays, and how many trials with a result they are drawn from."""
    from dlbench.report import exports
    from dlbench.storage.store import Store
    from dlbench.studies.replay import find, manifest_of, retrain_all, sample

    folder = Path(options.study)
    manifests: Sequence[Mapping[str, Any]]
    if exports.is_export(folder):
        kept = exports.read(folder)
        trials, manifests = kept.result.trials if kept.result else (), [kept.manifest]
        if not trials:
            raise InputError(f"{folder} holds only notes; name a study with trials")
    else:
        folder = study_folder(options.study)
        with Store(folder) as store:
            trials, manifests = tuple(store.results(verify=False)), store.manifests()
    chosen = sample(trials, *numbers) if numbers else [find(trials, options.trial or "", folder)]
    before = manifest_of(chosen, manifests)
    return retrain_all(chosen, before, options.data_dir), sum(trial.status.is_finished for trial in trials)


def check(folder: Path, as_json: bool) -> int:
    """Print everything that is damaged in a study; returns the exit code."""
    from dlbench.report import terminal
    from dlbench.storage.audit import audit

    problems = audit(folder)
    if as_json:
        print_json({"study": folder, "undamaged": not problems, "problems": problems})
    else:
        terminal.text("\n".join(problems) if problems else f"{folder} is undamaged")
    if problems:
        terminal.message(
            f"'dlbench run {shlex.quote(str(folder))} --retry-failed' trains trials again whose files are missing or "
            "damaged"
        )
    return 1 if problems else 0
