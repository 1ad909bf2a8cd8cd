"""The reports of the benchmarks, made from their records. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from dlbench.bench.commands import COLD, WARM
from dlbench.bench.rounds import Triple, quartiles
from dlbench.report import Column, Points, Report, Table, count, duration
from dlbench.spec.registry import label

_AXES = {"trials": "trials", "batch_size": "batch size", "images": "images", "parameters": "parameters"}


def _around(text: str) -> Any:
    """A function that formats a triple as a value with its bounds; equal or unknown bounds are left out."""

    def write(triple: Triple) -> str:
        value, low, high = (format(number, text) for number in triple)
        known = triple[1] == triple[1] and triple[1] != triple[2]
        return f"{value} [{low}, {high}]" if known else value

    return write


#: Operations below this share of a matrix product's rate are slow.
_SLOW = 0.5
_RATE = _around(",.0f")
_SECONDS = _around(",.2f")
_TIMES = _around(",.2f")


def _number(text: str) -> Any:
    return lambda value: format(value, text)


def steps_report(record: dict[str, Any]) -> Report:
    """Images per second, latency and memory, and the comparisons with the references."""
    cases, cores = record["cases"], record["cores"]
    return [_rates(cases, cores), _costs(cases), *(_compared(cases, s, cores) for s in cases[0]["ratios"])]


def operations_report(record: dict[str, Any]) -> Report:
    """The operations of each model, the slowest share of a step first; those at less than half the peak are marked."""
    return [_operations(name, found, record) for name, found in record["models"].items()]


def _operations(model: str, found: Sequence[dict[str, Any]], record: dict[str, Any]) -> Table:
    total = sum(each["times"] * each["seconds"] for each in found)
    columns = (
        Column("operation", "operation", left=True),
        Column("part", "part", left=True),
        Column("times", "times"),
        Column("share", "% of their time", lambda share: f"{100 * share:.0f}"),
        Column("rate", "GFLOP/s", lambda rate: f"{rate / 1e9:,.0f}"),
        Column("of_peak", "% of a matrix product", lambda share: f"{100 * share:.0f}"),
        Column("slow", "", left=True),
    )
    rows = []
    for each in found:
        rate = each["flops"] / each["seconds"]
        of_peak = rate / record["peak_flops"]
        share = each["times"] * each["seconds"] / total
        slow = "slow" if of_peak < _SLOW else ""
        rows.append((each["operation"], each["part"], each["times"], share, rate, of_peak, slow))
    slow_share = sum(row[3] for row in rows if row[-1])
    return Table(
        f"Convolutions and matrix products of {model}",
        columns,
        tuple(sorted(rows, key=lambda row: -row[3])),
        f"Batch size {record['batch_size']}, images of digits, one thread, each operation alone. A product of large "
        f"matrices reaches {record['peak_flops'] / 1e9:,.0f} GFLOP/s; operations at less than half of that are slow, "
        f"and take {100 * slow_share:.0f} % of the time of all. Zeros of the padding are counted as operations.",
    )


def _case(case: dict[str, Any]) -> tuple[Any, ...]:
    return case["model"], case["batch_size"], case["optimizer"]


_CASE = (
    Column("model", "model", left=True),
    Column("batch_size", "batch"),
    Column("optimizer", "optimizer", left=True),
)


def _rates(cases: Sequence[dict[str, Any]], cores: int) -> Table:
    settings = {
        "training_one_process_a_core": f"training, {count(cores, 'worker')}",
        "training_one_thread": "one worker",
        "training_all_threads": f"one worker, {count(cores, 'core')}",
        "evaluation_one_thread": "evaluation, one worker",
        "evaluation_all_threads": f"one worker, {count(cores, 'core')}",
    }
    names = [name for name in settings if name in cases[0]["sides"]["dlbench"]["samples"]]
    columns = (
        *_CASE,
        *(Column(name, settings[name], _RATE) for name in names),
        Column("share_of_peak", "% of peak", lambda share: f"{100 * share:.0f}"),
    )
    rows, peaks = [], []
    for case in cases:
        samples = case["sides"]["dlbench"]["samples"]
        peaks += samples["peak_flops"]
        rows.append((*_case(case), *(quartiles(samples[name]) for name in names), case["share_of_peak"]))
    peak, rounds = statistics.median(peaks), len(peaks) // len(cases)
    return Table(
        "Images per second",
        columns,
        tuple(rows),
        f"Medians [quartiles] of {count(rounds, 'round')}; a worker is a process with one thread. % of peak: FLOPs of "
        f"the layers, as one worker computes them, relative to a float32 matrix product on one core "
        f"({peak / 1e9:,.0f} GFLOP/s). It can exceed 100, because products with zeros are counted, and dlbench skips "
        "most of them.",
    )


def _costs(cases: Sequence[dict[str, Any]]) -> Table:
    columns = (
        *_CASE,
        Column("latency_s", "latency ms", lambda s: f"{1e3 * s:.3f}"),
        Column("latency_p99_s", "p99 ms", lambda s: f"{1e3 * s:.3f}"),
        Column("compile_cold_s", "compile s", _number(".2f")),
        Column("compile_cached_s", "from cache s", _number(".2f")),
        Column("peak_bytes", "peak MB", lambda size: f"{size / 1e6:,.0f}"),
        Column("flops_per_image", "MFLOP per image", lambda flops: f"{flops / 1e6:.2f}"),
        Column("xla_flops_per_image", "XLA's count", lambda flops: f"{flops / 1e6:.2f}"),
    )
    rows = []
    for case in cases:
        ours = case["sides"]["dlbench"]
        latency = 1 / statistics.median(ours["samples"]["latency_one_thread"])
        p99 = ours["latency_p99_s"]["latency_one_thread"]
        facts = (ours[name] for name in ("compile_cold_s", "compile_cached_s", "peak_bytes"))
        flops = case["flops_per_image"], case["xla_flops_per_image"]
        rows.append((*_case(case), latency, p99, *facts, *flops))
    return Table(
        "Latency, compilation, memory, arithmetic",
        columns,
        tuple(rows),
        "Latency: one image, from host to host. Compile: all functions of a program, including tracing. Peak: resident "
        "memory of a worker that compiles and trains. MFLOP: one image in a training step, counted in the network's "
        "products, and as counted by XLA.",
    )


_TITLES = {
    "training_all_cores": "training, all cores",
    "training_alone": "training, one trial",
    "evaluation": "evaluation",
    "latency": "latency",
}


def _compared(cases: Sequence[dict[str, Any]], side: str, cores: int) -> Table:
    columns = [*_CASE]
    for name, title in _TITLES.items():
        columns += [Column(name, title, _TIMES), Column(f"{name}_setting", "its best", left=True)]
    columns.append(Column("memory", "memory", _number(".2f")))
    rows = []
    for case in cases:
        row: list[Any] = list(_case(case))
        for name in _TITLES:
            found = case["ratios"][side][name]
            row += [(found["faster"], found["low"], found["high"]), _short(found["setting"], cores)]
        ours, theirs = (case["sides"][each]["peak_bytes"] for each in ("dlbench", side))
        rows.append((*row, theirs / ours))
    title = {"torch": "PyTorch", "flax": "plain Flax"}[side]
    return Table(
        f"How many times faster than {title}",
        tuple(columns),
        tuple(rows),
        f"{title} in its best setting on this machine, for each column. Ratios [95 % intervals over the rounds]; a "
        "single trial of dlbench uses all cores. Memory: its peak divided by dlbench's.",
    )


def _short(setting: str, cores: int) -> str:
    if setting.endswith("all_threads"):
        return count(cores, "thread")
    return f"{cores} process{'es' * (cores > 1)}" if setting.endswith("a_core") else "1 thread"


def lanes_report(record: dict[str, Any]) -> Report:
    """Images per second by number of lanes and form, and the comparison with PyTorch."""
    tables: Report = [_lanes(record)]
    if record["torch"]:
        tables += [_torch_lanes(record), _lanes_compared(record)]
    return tables


_OF_LANES = (Column("model", "model", left=True), Column("batch_size", "batch"), Column("lanes", "lanes"))


def _lanes(record: dict[str, Any]) -> Table:
    images = record["images_per_epoch"]
    rows: list[tuple[Any, ...]] = []
    for case in record["cases"]:
        start = (case["model"], case["batch_size"], case["lanes"], case["form"])
        if "samples" not in case:
            rows.append((*start, None, None, None, None, case["failed"]))
            continue
        rate, size = statistics.median(case["samples"]), case["bytes"]
        hourly, each = 3600 * rate / images, size and size / case["lanes"] / 1e6
        rows.append((*start, quartiles(case["samples"]), hourly, each, case["compile_s"], ""))
    columns = (
        *_OF_LANES,
        Column("form", "form", left=True),
        Column("images_per_s", "images per second", _RATE),
        Column("epochs_per_h", "epochs of a trial per hour", _number(",.0f")),
        Column("lane_mb", "MB per lane", _number(",.1f")),
        Column("compile_s", "compile s", _number(".1f")),
        Column("failed", "", left=True),
    )
    return Table(
        f"Training many trials at once on {record['device_kind']}",
        columns,
        tuple(rows),
        f"Medians [quartiles] of all lanes together; epochs of {images} images. vmap: the program of studies; product: "
        "convolutions as matrix products; loop: one lane after the other inside a program. MB: arguments, results and "
        "temporary arrays of the epoch.",
    )


def _torch_lanes(record: dict[str, Any]) -> Table:
    rows: list[tuple[Any, ...]] = []
    for case in record["torch"]:
        start = (case["model"], case["batch_size"], case["lanes"])
        rows += [(*start, way, quartiles(samples), "") for way, samples in case.get("samples", {}).items()]
        rows += [(*start, way, None, text) for way, text in case.get("failures", {}).items()]
        if "failed" in case and "failures" not in case:
            rows.append((*start, "", None, case["failed"]))
    columns = (
        *_OF_LANES,
        Column("way", "way", left=True),
        Column("images_per_s", "images per second", _RATE),
        Column("failed", "", left=True),
    )
    return Table(
        "PyTorch on the same device",
        columns,
        tuple(rows),
        "Medians [quartiles]. eager, graph: one network, launched step by step or as a CUDA graph; ensemble: as many "
        "networks as lanes, through torch.func.vmap. TF32 is off.",
    )


def _lanes_compared(record: dict[str, Any]) -> Table:
    names = ("model", "batch_size", "lanes", "form", "one_at_a_time", "ensemble")
    columns = (
        *_OF_LANES,
        Column("form", "fastest form", left=True),
        Column("one_at_a_time", "times one network", _number(",.2f")),
        Column("ensemble", "times the ensemble", _number(",.2f")),
    )
    rows = tuple(tuple(each[name] for name in names) for each in record["ratios"])
    return Table(
        "How many times faster than PyTorch", columns, rows, "Ratios of medians, PyTorch in its fastest way."
    )


def commands_report(record: dict[str, Any]) -> Report:
    """Wall-clock times of whole commands."""
    columns = (
        Column("name", "", left=True),
        Column("wall_s", "wall clock s", _SECONDS),
        Column("train_s", "training s", _number(",.1f")),
        Column("val_accuracy", "best val acc %", lambda share: f"{100 * share:.2f}"),
        Column("cold", "times dlbench, empty cache", _TIMES),
        Column("warm", "times dlbench, warm cache", _TIMES),
    )
    rows = []
    for contender in record["contenders"]:
        ratios = [contender["ratios"].get(name) for name in (COLD, WARM)]
        rows.append(
            (
                contender["name"],
                quartiles(contender["wall_s"]),
                statistics.median(contender["train_s"]),
                statistics.mean(contender["val_accuracy"]),
                *(found and (found["faster"], found["low"], found["high"]) for found in ratios),
            )
        )
    rounds = len(record["contenders"][0]["wall_s"])
    return [
        Table(
            f"{count(record['num_trials'], 'trial')}, from process start to end",
            columns,
            tuple(rows),
            f"{' '.join(record['command'])}\nMedians [quartiles] of {count(rounds, 'round')} in turns, "
            f"{count(record['cores'], 'core')}; ratios [95 % intervals]. Training: with evaluation, summed over "
            "trials. dlbench also tests, and writes checkpoints, curves and predictions.",
        )
    ]


def scaling_report(record: dict[str, Any]) -> Report:
    """The cost along each axis."""
    report: Report = []
    for axis, title in _AXES.items():
        points = [point for point in record["points"] if point["axis"] == axis]
        columns = [
            Column(axis, title, _number(",d")),
            Column("workers", "workers"),
            Column("s", "wall clock s" if axis == "trials" else "training s", _around(",.3f")),
        ]
        rows: list[tuple[Any, ...]] = [
            (point["value"], point["workers"], (point["median_s"], point["low_s"], point["high_s"]))
            for point in points
        ]
        if axis == "trials":
            columns.append(Column("trial_s", "ms per trial", lambda s: f"{1e3 * s:,.1f}"))
            rows = [(*row, row[2][0] / row[0]) for row in rows]
        report.append(Table(f"Cost by {title}", tuple(columns), tuple(rows)))
    overhead = record["overhead"]
    over, whole, evaluation = (
        f"{1e3 * overhead[name]['median_s']:.1f} ms"
        for name in ("worker_s_per_trial", "worker_s_per_trial_with_start", "evaluation_s_per_trial")
    )
    report.append(
        f"{overhead['num_trials']:,} trials of one epoch over 64 images: beyond training, a trial takes {over} of its "
        f"worker's time, of which {evaluation} is the evaluation of 32 validation and 96 test images. With its share "
        f"of start-up and compilation, it takes {whole} ({count(overhead['workers'], 'worker')})."
    )
    return report


def latency_report(record: dict[str, Any]) -> Report:
    """The latencies of models side by side, the fastest first, and which of them are over the budget."""

    def milliseconds(value: float) -> str:
        return f"{1e3 * value:.3f}"

    columns = (
        Column("model", "model", left=True),
        Column("p50_s", "p50 ms", milliseconds),
        Column("p95_s", "p95 ms", milliseconds),
        Column("p99_s", "p99 ms", milliseconds),
        Column("images_per_s", "images/s in batches of 64", lambda value: f"{value:,.0f}"),
        Column("size_bytes", "file MB", lambda value: f"{value / 1e6:.3f}"),
        Column("parameters", "parameters", lambda value: f"{value:,}"),
    )
    models = sorted(record["models"], key=lambda each: each["p50_s"])
    rows = tuple(
        tuple(label(each["model"]) if c.key == "model" else each[c.key] for c in columns) for each in models
    )
    height, width, channels = record["image_shape"]
    caption = (
        f"One image {height}x{width}x{channels} as {record['to']}{' in int8' if record['int8'] else ''}, "
        f"{count(record['threads'], 'thread')}; models that are not trained, measured in turns."
    )
    over = tuple(
        f"{label(each['model'])}: {', '.join(each['over_budget'])}" for each in models if each["over_budget"]
    )
    return [Table("Latency", columns, rows, caption), *([Points("Over the budget:", over)] if over else [])]


def announcement(what: str, seconds: float) -> str:
    """The message shown before a benchmark starts."""
    return f"bench {what}: about {duration(seconds)} on two cores; keep the machine idle otherwise"
