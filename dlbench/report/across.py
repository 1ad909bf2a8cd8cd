"""Studies compared with each other, in tables and words."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from dlbench.analysis.across import Difference, StudiesComparison
from dlbench.analysis.looks import ALPHA
from dlbench.analysis.outlook import has_interval, is_unpaired
from dlbench.report.tables import Column, Report, Table, count, level, signed_interval
from dlbench.spec.metrics import Metric, metric
from dlbench.spec.naming import field_title, setting
from dlbench.spec.trial import TrialSpec
from dlbench.stats import PairwiseComparison

#: Values of a study that a cell names.
_NAMED = 6


def across_report(found: StudiesComparison) -> Report:
    """What differs between the studies, and which differences of their configurations the data support."""
    return [*_differences(found), *_shared(found), *_tests(found)]


def _differences(found: StudiesComparison) -> Report:
    if not found.differences:
        return ["These studies do not differ in settings, data, environment or code."]
    columns = (
        Column("kind", "", left=True),
        Column("name", "what", left=True),
        *(Column(name, name, left=True) for name in found.names),
    )
    rows = tuple(
        (each.kind, field_title(each.name), *(_values(each, values) for values in each.values))
        for each in found.differences
    )
    return [Table("What differs", columns, rows)]


def _values(difference: Difference, values: tuple[Any, ...]) -> str:
    is_field = difference.kind == "settings" and difference.name in TrialSpec.model_fields
    texts = [setting(difference.name, value) if is_field else _short(value) for value in values]
    return ", ".join(texts[:_NAMED]) + (f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else "")


def _short(value: Any) -> str:
    text = "none" if value in (None, "", {}, []) else str(value)
    return text[:12] if len(text) in (40, 64) and text.isalnum() else text


def _shared(found: StudiesComparison) -> Report:
    said = []
    if found.num_shared:
        bits = "with the same bits everywhere"
        if found.num_changed:
            bits = f"{found.num_changed:,} of them with other bits"
        said.append(f"{count(found.num_shared, 'trial')} in several of these studies, {bits}.")
    if found.num_left_out:
        said.append(f"Left out: {count(found.num_left_out, 'trial')} without a result.")
    return [" ".join(said)] if said else []


def _tests(found: StudiesComparison) -> Report:
    if not found.pairs:
        return [
            "No configurations can be compared: the studies have the same trials, share no data set, or have no values "
            "of the metric."
        ]
    known = metric(found.metric)
    columns = (
        Column("a", "first", left=True),
        Column("b", "second", left=True),
        Column("difference", f"difference{known.in_heading} [95 %]", partial(_difference, known=known)),
        Column("n", "seeds", _seeds),
        Column("p_adjusted", "p", lambda value: f"{value:.2g}"),
    )
    untested = [math.isnan(pair.comparison.p_value) for pair in found.pairs]
    rows = tuple(
        (pair.a, pair.b, pair, pair, None if without else pair.p_adjusted)
        for pair, without in zip(found.pairs, untested, strict=True)
    )
    caption = (
        f"{found.metric}: first minus second. Paired where seed, data and split agree. p: after Holm's correction over "
        f"{count(len(found.pairs), 'comparison')}."
    )
    if any(untested):
        caption += " Single values, and folds without pairs, cannot be tested; they count with p = 1."
    number = len(found.supported)
    verdict = (
        f"The data support {count(number, 'difference')} at {level(ALPHA)}: "
        + "; ".join(_better(pair, known) for pair in found.supported)
        + "."
        if number
        else "No difference between these studies could be tested."
        if all(untested)
        else f"The data support no difference between these studies at {level(ALPHA)}."
    )
    return [Table("Configurations of different studies", columns, rows, caption), verdict]


def _difference(pair: PairwiseComparison, known: Metric) -> str:
    text = signed_interval(pair.comparison.difference, known)
    return text if has_interval(pair.comparison) else text.partition(" ")[0]


def _seeds(pair: PairwiseComparison) -> str:
    return f"{pair.comparison.n} in all" if is_unpaired(pair) else f"{pair.comparison.n} pairs"


def _better(pair: PairwiseComparison, known: Metric) -> str:
    first = (pair.comparison.difference.estimate > 0) != known.lower_is_better
    better, worse = (pair.a, pair.b) if first else (pair.b, pair.a)
    return f"{better} is better than {worse}"
