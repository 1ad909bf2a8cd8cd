"""Configurations by the number of training images, and where their learning curves cross. No jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from dlbench.analysis.configurations import Configuration, configurations, free_axes
from dlbench.analysis.failures import measured
from dlbench.analysis.search import compared_axes, concluded
from dlbench.errors import InputError
from dlbench.spec.metrics import metric, report_metric
from dlbench.stats import Interval, curve_crossings
from dlbench.storage.results import StudyRecord

#: Fewer sizes do not make a curve.
MIN_SIZES = 3
#: More curves than this are not compared in pairs.
MAX_CURVES = 12


@dataclass(frozen=True)
class CurveCrossings:
    """The order of the learning curves of two configurations, from few training images to many.

    Attributes:
        first: the label of one configuration.
        second: that of the other.
        ahead: the one that is better, as far as the data decide, in turn; empty if they decide nowhere.
        sizes: the number of images at each change, with its interval; one fewer than ``ahead``.
    """

    first: str
    second: str
    ahead: tuple[str, ...]
    sizes: tuple[Interval, ...]


def curves_by_size(result: StudyRecord) -> dict[str, dict[int, Configuration]]:
    """The configurations of a study by label and number of training images, ascending.

    Settings that follow from that number, such as epochs that are fewer for more images, tell no curves apart.

    Returns:
        Curves of three sizes or more; none if the number of images does not vary.
    """
    axes = compared_axes(result)
    if "train_size" not in axes:
        return {}
    groups = [each for each in configurations(concluded(result)) if each.complete and each.spec.train_size]
    others = free_axes(groups, axes, "train_size")
    curves: dict[str, dict[int, Configuration]] = {}
    for group in groups:
        curves.setdefault(group.label(others) if others else "all", {})[group.spec.train_size or 0] = group
    return {label: dict(sorted(own.items())) for label, own in curves.items() if len(own) >= MIN_SIZES}


def crossings_of(result: StudyRecord) -> tuple[CurveCrossings, ...]:
    """Where the learning curves of each pair of configurations cross, by the metric that the study reports.

    Trials that diverged count with the worst value of the metric.

    Returns:
        One entry per pair with three seeds or more at two sizes or more; none for more than :data:`MAX_CURVES` curves,
        and none for folds and crossed seeds, whose values are not independent.
    """
    curves = curves_by_size(result)
    groups = [group for curve in curves.values() for group in curve.values()]
    if len(curves) > MAX_CURVES or any(group.overlap or group.crossed for group in groups):
        return ()
    name = report_metric(group.spec for group in groups) if groups else ""
    values = {label: _values(curve, name) for label, curve in curves.items()}
    found = []
    for first, second in combinations(curves, 2):
        try:
            crossings = curve_crossings(values[first], values[second])
        except InputError:  # too few seeds
            continue
        upper, lower = (second, first) if metric(name).lower_is_better else (first, second)
        ahead = tuple(upper if sign > 0 else lower for sign in crossings.signs)
        found.append(CurveCrossings(first, second, ahead, crossings.sizes))
    return tuple(found)


def _values(curve: Mapping[int, Configuration], name: str) -> dict[int, dict[object, float]]:
    return {size: measured({"": group}, name).get("", {}) for size, group in curve.items()}
