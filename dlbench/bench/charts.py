"""Figures of the benchmarks' records, drawn with matplotlib."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.bench.rounds import quartiles
from dlbench.bench.steps import COMPARED
from dlbench.errors import InputError
from dlbench.report import count
from dlbench.report.figures.vector import compact

_SUFFIXES = (".svg", ".png", ".pdf")
_AXES = {"trials": "trials", "batch_size": "batch size", "images": "images", "parameters": "parameters"}
_NAMES = {"dlbench": "dlbench", "torch": "PyTorch", "flax": "plain Flax"}


def check(path: Path) -> None:
    """Check that a figure can be written to a path.

    Raises:
        InputError: it cannot; names the rule and the remedy.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError.must_be("chart", f"a file that ends in {', '.join(_SUFFIXES)}", str(path))
    files.check_new(path, "chart")


def draw(what: str, record: dict[str, Any], path: Path) -> None:
    """Draw a record and write the figure.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    drawers: dict[str, Callable[[Any, dict[str, Any]], None]] = {"steps": _steps, "scaling": _scaling}
    figure = Figure(layout="constrained")
    drawers.get(what, _commands)(figure, record)
    image, suffix = io.BytesIO(), path.suffix.lower()
    figure.savefig(image, format=suffix[1:], dpi=150)
    made = image.getvalue()
    files.write_new(path, compact(made.decode()).encode() if suffix == ".svg" else made, "chart")


def _steps(figure: Any, record: dict[str, Any]) -> None:
    """Training images per second on all cores by batch size; one panel per network, one line per implementation."""
    models = list(dict.fromkeys(case["model"] for case in record["cases"]))
    figure.set_size_inches(max(3.2 * len(models), 4.5), 3.4)
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        cases = [case for case in record["cases"] if case["model"] == model]
        for side in cases[0]["sides"]:
            points = [quartiles(_best(case["sides"][side]["samples"])) for case in cases]
            _line(axes, [case["batch_size"] for case in cases], points, _NAMES[side])
        axes.set(title=model, xlabel="batch size", xscale="log", yscale="log")
        sizes = [case["batch_size"] for case in cases]
        axes.set_xticks(sizes, sizes)
        axes.set_xticks([], minor=True)
    first = figure.axes[0]
    first.set_ylabel(f"training images per second, {record['cores']} cores")
    first.legend()


def _best(samples: dict[str, list[float]]) -> list[float]:
    found = [samples[name] for name in COMPARED["training_all_cores"] if name in samples]
    return max(found, key=statistics.median)


def _line(axes: Any, x: list[float], points: list[tuple[float, float, float]], label: str) -> None:
    errors = [[p[0] - p[1] for p in points], [p[2] - p[0] for p in points]]
    axes.errorbar(x, [p[0] for p in points], yerr=errors, marker="o", capsize=2, label=label)


def _commands(figure: Any, record: dict[str, Any]) -> None:
    """One bar per command."""
    contenders = record["contenders"][::-1]
    figure.set_size_inches(8, 0.6 + 0.5 * len(contenders))
    axes = figure.subplots()
    points = [quartiles(contender["wall_s"]) for contender in contenders]
    errors = [[p[0] - p[1] for p in points], [p[2] - p[0] for p in points]]
    names = [contender["name"] for contender in contenders]
    bars = axes.barh(names, [p[0] for p in points], xerr=errors, capsize=2)
    axes.bar_label(bars, [f"{p[0]:,.1f}" for p in points], padding=4)
    axes.margins(x=0.12)
    axes.set_xlabel(
        f"seconds from process start to end, {record['num_trials']} trials, {record['cores']} cores"
    )


def _scaling(figure: Any, record: dict[str, Any]) -> None:
    """One panel per axis."""
    figure.set_size_inches(13, 3.4)
    for axes, (axis, title) in zip(figure.subplots(1, len(_AXES)), _AXES.items(), strict=True):
        points = [point for point in record["points"] if point["axis"] == axis]
        for workers in dict.fromkeys(point["workers"] for point in points):
            chosen = [point for point in points if point["workers"] == workers]
            triples = [(point["median_s"], point["low_s"], point["high_s"]) for point in chosen]
            _line(axes, [point["value"] for point in chosen], triples, count(workers, "worker"))
        seconds = "wall clock, s" if axis == "trials" else "training, s"
        axes.set(xlabel=title, ylabel=seconds, xscale="log", yscale="log")
        values = sorted({point["value"] for point in points})
        axes.set_xticks(values, [f"{value:,}" for value in values], rotation=30)
        axes.set_xticks([], minor=True)
    figure.axes[0].legend()
