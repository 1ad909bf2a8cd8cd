"""The command bench, which measures the speed of dlbench."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dlbench.cli.deploy import budget_of
from dlbench.cli.options import FLAGS, Values, takes
from dlbench.cli.studies import print_json
from dlbench.errors import InputError, UnknownNameError, shown

if TYPE_CHECKING:
    from dlbench.bench.commands import Work
    from dlbench.bench.steps import Notify

#: The flags that each benchmark accepts.
_FLAGS = {
    "steps": ("model", "batch_size", "optimizer"),
    "operations": ("model", "batch_size"),
    "lanes": ("model", "batch_size", "optimizer", "device", "lanes", "seconds"),
    "grid": ("epochs",),
    "archs": ("epochs",),
    "trial": ("model", "epochs"),
    "search": ("epochs",),
    "scaling": (),
    "latency": ("model", "dataset", "to", "int8", "threads", "max_latency", "max_size"),
}
_AGAINST = {
    "steps": ("torch", "flax"),
    "lanes": ("torch",),
    "search": ("torch",),
    "scaling": (),
    "operations": (),
    "latency": (),
}
_PIPELINES = ("torch", "original")
_REPEATS = {
    "steps": 5,
    "lanes": 3,
    "grid": 3,
    "archs": 1,
    "trial": 3,
    "search": 3,
    "scaling": 2,
    "operations": 3,
    "latency": 3,
}
_EPOCHS = {"grid": 20, "archs": 50, "trial": 10, "search": 5}


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The flags of ``bench``."""

    what: Annotated[
        Literal["steps", "operations", "lanes", "grid", "archs", "trial", "search", "scaling", "latency"],
        typer.Argument(
            metavar="BENCHMARK",
            help="steps: training step by step; operations: the convolutions and products of a model one by one; "
            "lanes: many trials at once on one device; grid, archs, trial, search: whole commands; scaling: cost by "
            "size; latency: exported models, in their runtime.",
        ),
    ] = "steps"
    model: Annotated[
        Values,
        typer.Option(
            "--model",
            metavar="NAME...",
            help="steps, operations, latency: any models [the five]; lanes: some of the five; trial: one of them "
            "[Baseline].",
        ),
    ] = None
    batch_size: Annotated[
        Values,
        typer.Option(
            "--batch-size",
            metavar="N...",
            help="Images per training step [steps 8 16 64 128, lanes 8 64, operations 64].",
        ),
    ] = None
    optimizer: Annotated[
        Literal["sgd", "adam"] | None, typer.Option("--optimizer", help="steps, lanes: the optimizer [sgd].")
    ] = None
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="auto|cpu|gpu|tpu|metal", help="lanes: the device [auto]."),
    ] = None
    lanes: Annotated[
        Values,
        typer.Option(
            "--lanes",
            metavar="N...",
            help="lanes: numbers of trials at once [1 2 8 on a CPU, 1 8 64 256 512 on others].",
        ),
    ] = None
    seconds: Annotated[
        str | None,
        typer.Option("--seconds", metavar="N", help="lanes: what is not measured by then is left out."),
    ] = None
    epochs: Annotated[
        str | None,
        typer.Option("--epochs", metavar="N", help="Epochs [grid 20, archs 50, trial 10, search 5]."),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="latency: whose images are answered [mnist5k]."),
    ] = None
    to: Annotated[
        Literal["stablehlo", "npz", "onnx"] | None,
        typer.Option("--to", help="latency: the kind of file [stablehlo]."),
    ] = None
    int8: Annotated[
        bool | None, typer.Option("--int8", help="latency: compute in int8, with onnx.", show_default=False)
    ] = None
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="latency: threads of the runtime [1].")
    ] = None
    max_latency: Annotated[
        str | None,
        typer.Option(
            "--max-latency", metavar="TIME", help="latency: exit with code 1 if a p95 is higher: 5ms."
        ),
    ] = None
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size", metavar="SIZE", help="latency: exit with code 1 if a file is larger: 1MB."
        ),
    ] = None
    against: Annotated[
        Values,
        typer.Option(
            "--against",
            metavar="NAME...",
            help="steps: torch, flax; lanes: torch; grid, archs, trial: torch (tensors in memory), original (image by "
            "image); search: torch, in Optuna's loop.",
        ),
    ] = None
    repeats: Annotated[
        str | None,
        typer.Option(
            "--repeats",
            metavar="N",
            help="Rounds [steps 5, archs 1, scaling 2, others 3].",
        ),
    ] = None
    chart: Annotated[
        str | None, typer.Option("--chart", metavar="FILE", help="Write a figure: .svg, .png or .pdf.")
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, including every sample.")
    ] = False


@takes(BenchOptions)
def bench(options: BenchOptions) -> int:
    """Measure the speed of training on this machine's CPU, alone or against PyTorch and plain Flax; or of answers.

    Exit code 1: a budget of latency or size is exceeded.
    """
    from dlbench.bench import charts, tables
    from dlbench.report import terminal

    _check_flags(options)
    against = _against(options)
    repeats = _number("--repeats", options.repeats, _REPEATS[options.what])
    if options.chart is not None:
        if options.what in ("operations", "latency"):
            raise InputError(f"bench {options.what} draws no chart; leave out --chart")
        charts.check(Path(options.chart))
    record = _measure(options, against, repeats, terminal.message)
    reports = {
        "steps": tables.steps_report,
        "operations": tables.operations_report,
        "lanes": tables.lanes_report,
        "scaling": tables.scaling_report,
        "latency": tables.latency_report,
    }
    if options.as_json:
        print_json({"benchmark": options.what, **record})
    else:
        terminal.show(reports.get(options.what, tables.commands_report)(record))
    if options.chart is not None:
        charts.draw(options.what, record, Path(options.chart))
    return 1 if options.what == "latency" and any(each["over_budget"] for each in record["models"]) else 0


def _measure(options: BenchOptions, against: Sequence[str], repeats: int, notify: Any) -> dict[str, Any]:
    from dlbench.bench import commands, scaling, steps, tables

    if options.what == "lanes":
        return _measure_lanes(options, against, repeats, notify)
    if options.what == "latency":
        return _measure_latency(options, repeats)
    if options.what == "scaling":
        extent = scaling.Extent(repeats)
        notify(tables.announcement("scaling", scaling.estimate_s(extent)))
        return scaling.run(extent, notify)
    if options.what == "steps":
        texts = options.batch_size or map(str, steps.BATCH_SIZES)
        sizes = dict.fromkeys(_number("--batch-size", text, 0) for text in texts)
        cases = [
            steps.Case(model, size, options.optimizer or "sgd")
            for model in _any_models(options.model or steps.MODELS, against)
            for size in sizes
        ]
        effort = steps.Effort(repeats)
        notify(tables.announcement("steps", steps.estimate_s(len(cases), against, effort)))
        return steps.run(cases, against, effort, notify)
    if options.what == "operations":
        return steps.operations(
            _any_models(options.model or steps.MODELS, against),
            _number("--batch-size", (options.batch_size or ["64"])[0], 64),
            repeats,
            notify,
        )
    epochs = _number("--epochs", options.epochs, _EPOCHS[options.what])
    if options.what == "trial":
        models = _models(options.model or ["Baseline"])
        if len(models) > 1:
            raise InputError(f"bench trial takes one --model; got {', '.join(models)}")
        work = commands.trial(models[0], epochs)
    else:
        works: dict[str, Callable[[int], Work]] = {
            "grid": commands.grid,
            "archs": commands.archs,
            "search": commands.search,
        }
        work = works[options.what](epochs)
    notify(tables.announcement(options.what, commands.estimate_s(work, against, repeats)))
    return measure_command(work, against, repeats, notify)


def _measure_lanes(
    options: BenchOptions, against: Sequence[str], repeats: int, notify: Notify
) -> dict[str, Any]:
    from dlbench.bench import lanes, steps, tables
    from dlbench.execution import devices

    device = devices.device(options.device or "auto")
    sizes = options.batch_size or map(str, lanes.BATCH_SIZES)
    chosen = lanes.cases(
        _models(options.model or steps.MODELS),
        list(dict.fromkeys(_number("--batch-size", text, 0) for text in sizes)),
        options.optimizer or "sgd",
        list(
            dict.fromkeys(
                _number("--lanes", text, 0) for text in options.lanes or map(str, lanes.default_lanes(device))
            )
        ),
    )
    seconds = None if options.seconds is None else _number("--seconds", options.seconds, 0)
    effort = lanes.Effort(repeats, seconds=seconds)
    notify(tables.announcement("lanes", lanes.estimate_s(chosen, against, effort)))
    return lanes.run(chosen, device, against, effort, notify)


def _measure_latency(options: BenchOptions, rounds: int) -> dict[str, Any]:
    """Exported models side by side, and which of them are over the budget."""
    from dlbench import data
    from dlbench.bench.steps import MODELS
    from dlbench.deploy.export import latencies
    from dlbench.report import terminal

    budget = budget_of(options.max_latency, options.max_size)
    models = _any_models(options.model or MODELS, ())
    dataset, to, threads = (
        options.dataset or "mnist5k",
        options.to or "stablehlo",
        1 if options.threads is None else options.threads,
    )
    shape, classes = data.images_of(dataset) or _images(dataset)
    with terminal.waiting("measuring latencies", quiet=options.as_json):
        found = latencies(models, to, shape, classes, int8=bool(options.int8), threads=threads, rounds=rounds)
    return {
        "to": to,
        "int8": bool(options.int8),
        "threads": threads,
        "dataset": dataset,
        "image_shape": list(shape),
        "models": [
            {
                "model": each.model,
                "parameters": each.parameters,
                "size_bytes": each.size_bytes,
                **vars(each.latency),
                "over_budget": list(budget.exceeded(each.latency, each.size_bytes)),
            }
            for each in found
        ],
    }


def _images(dataset: str) -> tuple[tuple[int, int, int], int]:
    from dlbench import data

    found = data.info(dataset)
    return found.image_shape, found.num_classes


def measure_command(work: Work, against: Sequence[str], repeats: int, notify: Notify) -> dict[str, Any]:
    """Measure a whole command; the record includes its command line."""
    from dlbench.bench import commands
    from dlbench.spec.designs import values_of
    from dlbench.spec.study import KINDS

    words = [KINDS[work.design], "--device", "cpu"]
    for name, value in {**work.axes, **work.options}.items():
        words += [FLAGS[name], *map(str, values_of(value))]

    def process(out: Path) -> list[str]:
        return [
            sys.executable,
            "-P",
            "-m",
            "dlbench",
            *words,
            "--out",
            str(out),
            "--json",
            "--quiet",
            "--yes",
            "--no-reuse",
        ]

    return {"command": ["dlbench", *words], **commands.run(work, process, against, repeats, notify)}


def _check_flags(options: BenchOptions) -> None:
    for name in dict.fromkeys(name for names in _FLAGS.values() for name in names):
        if getattr(options, name) is not None and name not in _FLAGS[options.what]:
            accepting = [what for what, flags in _FLAGS.items() if name in flags]
            raise InputError(
                f"bench {options.what} does not accept {FLAGS[name]}; leave it out, or use bench "
                f"{' or '.join(accepting)}"
            )


def _against(options: BenchOptions) -> list[str]:
    known = _AGAINST.get(options.what, _PIPELINES)
    names = list(dict.fromkeys(options.against or ()))
    for name in names:
        if name not in known:
            if not known:
                raise InputError(f"bench {options.what} has no reference; leave out --against {shown(name)}")
            raise UnknownNameError(f"reference of bench {options.what}", name, known, field="against")
        if name != "flax" and importlib.util.find_spec("torch") is None:
            raise InputError(
                f"--against {name} needs PyTorch, which is not installed; run pip install 'dlbench[oracle]'"
            )
    return names


def _models(names: Sequence[str]) -> list[str]:
    from dlbench.bench.steps import MODELS
    from dlbench.spec.registry import name_key

    known = {name_key(model): model for model in MODELS}
    for name in names:
        if name_key(name) not in known:
            raise UnknownNameError("network of the benchmark", name, MODELS, field="model")
    return list(dict.fromkeys(known[name_key(name)] for name in names))


def _any_models(names: Sequence[str], against: Sequence[str]) -> list[str]:
    """Models that can be named, with arguments, in their canonical form.

    Raises:
        InputError: one cannot, or there is nothing to compare it with.
    """
    from dlbench.spec import parts
    from dlbench.spec.registry import MODELS

    found = []
    for name in names:
        try:
            part = parts.parse(name)
        except ValueError as error:
            raise InputError.must_be("model", str(error), name) from None
        reference = MODELS.resolve(part.name)
        if "torch" in against and ":" in reference:
            raise InputError(
                f"there is no model in PyTorch to compare {shown(name)} with; leave out --against torch",
                field="model",
            )
        found.append(str(parts.Part(reference, MODELS.arguments(reference, part.arguments))))
    return list(dict.fromkeys(found))


def _number(flag: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 1000 or len(text) > 4:
        raise InputError(f"{flag} must be a number from 1 to 1,000; got {shown(text)}")
    return int(text)
