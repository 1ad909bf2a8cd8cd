"""The commands that take trained networks out of dlbench: export and card."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dlbench.cli.options import DataDir, Json, Study, TrialId, takes
from dlbench.cli.studies import print_json, study_folder

if TYPE_CHECKING:
    from dlbench.deploy.export import Budget, Exported


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The flags of ``export``."""

    study: Study
    trial: TrialId
    to: Annotated[Literal["stablehlo", "npz", "onnx"], typer.Option("--to", help="The kind of file.")] = (
        "stablehlo"
    )
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="The file [TRIAL.stablehlo, .npz or .onnx].")
    ] = None
    int8: Annotated[
        bool, typer.Option("--int8", help="With onnx: compute in int8, calibrated on validation images.")
    ] = False
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", help="Threads of the runtime that is measured.")
    ] = 1
    max_latency: Annotated[
        str | None,
        typer.Option(
            "--max-latency",
            metavar="TIME",
            help="Exit with code 1 if the p95 latency is higher: 5ms.",
        ),
    ] = None
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Exit with code 1 if the file is larger: 1MB."),
    ] = None
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Your own model, to allow its code to run."),
    ] = None
    data_dir: DataDir = None
    as_json: Json = False


@takes(ExportOptions)
def export(options: ExportOptions) -> int:
    """Export a trained network, check the file in its own runtime, and measure size and latency.

    The file takes float32 images [N, H, W, C] in [-1, 1]. Exit code 1: a budget is exceeded.
    """
    from dlbench.deploy.export import export_trial
    from dlbench.report import terminal
    from dlbench.spec.registry import MODELS

    budget = budget_of(options.max_latency, options.max_size)
    if options.model:
        MODELS.resolve(options.model)
    out = options.out or f"{options.trial}{'-int8' if options.int8 else ''}.{options.to}"
    with terminal.waiting(f"exporting to {out}", quiet=options.as_json):
        done = export_trial(
            study_folder(options.study),
            options.trial,
            options.to,
            out,
            int8=options.int8,
            threads=options.threads,
            data_dir=options.data_dir,
        )
    over = done.over(budget)
    if options.as_json:
        print_json({**_record(done), "over_budget": list(over)})
    else:
        terminal.show(_report(done, over))
    return 1 if over else 0


@dataclass(frozen=True, kw_only=True)
class CardOptions:
    """The flags of ``card``."""

    study: Study
    trial: TrialId
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="The file; without it, the card is printed.")
    ] = None
    data_dir: DataDir = None


@takes(CardOptions)
def card(options: CardOptions) -> None:
    """Write the model card of a trained network, in the form that the Hugging Face hub reads."""
    from dlbench.deploy.card import model_card
    from dlbench.files import check_new, write_new
    from dlbench.report import terminal

    folder = study_folder(options.study)
    if options.out is not None:
        check_new(Path(options.out))
    commands = [f"dlbench replay {shlex.quote(options.study)} {options.trial}"]
    text = model_card(folder, options.trial, commands, options.data_dir)
    if options.out is None:
        terminal.text(text)
        return
    write_new(Path(options.out), text.encode())
    terminal.text(f"The card is in {options.out}")


def budget_of(max_latency: str | None, max_size: str | None) -> Budget:
    """The budget that two flags give.

    Raises:
        InputError: one has no known unit, or is not more than 0.
    """
    from dlbench.deploy.export import Budget
    from dlbench.spec.quantities import BYTES, SECONDS, quantity

    return Budget(
        None if max_latency is None else quantity("max_latency", max_latency, SECONDS),
        None if max_size is None else quantity("max_size", max_size, BYTES),
    )


def _record(done: Exported) -> dict[str, Any]:
    from dlbench.report.diagnosis import interval_record

    return {
        "trial": done.trial.id,
        "path": str(done.path),
        "kind": done.kind,
        "int8": done.int8,
        "size_bytes": done.size_bytes,
        "num_images": done.num_images,
        "differ": done.differ,
        "max_difference": done.max_difference,
        "accuracy_before": done.accuracy_before,
        "accuracy_after": done.accuracy_after,
        "change": interval_record(done.change),
        "mcnemar_p": done.test.p_value,
        "latency": vars(done.latency),
    }


def _report(done: Exported, over: tuple[str, ...]) -> list[Any]:
    from dlbench.report import Points, percent
    from dlbench.report.listings import facts_table
    from dlbench.report.tables import signed_interval

    same = "identical" if not done.differ else f"{done.differ:,} differ"
    latency = done.latency
    quantiles = (1e3 * value for value in (latency.p50_s, latency.p95_s, latency.p99_s))
    milliseconds = ", ".join(
        f"{name} {value:.3f}" for name, value in zip(("p50", "p95", "p99"), quantiles, strict=True)
    )
    threads = "1 thread" if latency.threads == 1 else f"{latency.threads} threads"
    facts = (
        ("file", str(done.path)),
        ("size", f"{done.size_bytes / 1e6:.3f} MB"),
        (
            "predictions",
            f"{done.num_images:,} test images, {same}; logits differ by at most {done.max_difference:.2g}",
        ),
        (
            "test accuracy",
            f"{percent(done.accuracy_after)} %, trained network {percent(done.accuracy_before)} %",
        ),
        ("change, points [95 %]", f"{signed_interval(done.change)}, McNemar's p = {done.test.p_value:.3g}"),
        (f"latency, {threads}", f"{milliseconds} ms for one image"),
        (f"throughput, {threads}", f"{latency.images_per_s:,.0f} images/s in batches of 64"),
    )
    title = f"{done.trial.model} as {done.kind}{' in int8' if done.int8 else ''}"
    return [facts_table(title, facts), *([Points("Over the budget:", over)] if over else [])]
