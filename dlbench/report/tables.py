"""The parts that reports are made of, tables and sentences, and the format of the numbers in them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from dlbench.analysis.configurations import Configuration, Summary
from dlbench.analysis.convergence import Convergence
from dlbench.errors import printable
from dlbench.spec.metrics import Metric, metric, report_metric, title
from dlbench.spec.naming import field_title, model_names, setting
from dlbench.spec.trial import TrialSpec
from dlbench.stats import Interval
from dlbench.storage.results import TrialResult

#: Accuracies further than this below the highest share the lowest shade, so that one failure does not hide the rest.
SPAN = 0.1
_ACCURACY = metric("test/accuracy")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: its name in CSV.
        title: its heading.
        text: formats one of its values.
        left: whether it is aligned to the left, as words are, instead of to the right, as numbers are.
        whole: whether its values are never broken into lines, so that they can be copied.
    """

    key: str
    title: str
    text: Callable[[Any], str] = str
    left: bool = False
    whole: bool = False


class Made(Sequence[Any]):
    """A sequence that computes its items when they are read. Of ten thousand rows, a terminal shows few.

    Args:
        source: the items to compute from.
        make: computes one item.
    """

    def __init__(self, source: Sequence[Any], make: Callable[[Any], Any]) -> None:
        self._source, self._make = source, make

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Made(self._source[place], self._make)
        return self._make(self._source[place])


@dataclass(frozen=True)
class Table:
    """Rows of values, and how to format them.

    Attributes:
        title: shown above the table.
        columns: one for each value of a row.
        rows: the values, not formatted; ``None`` for a missing one.
        caption: shown below the table.
        heat: whether the table is a heat map: every cell but the first of each row is shaded by its value.
        span: of a heat map: values further than this below the highest share the lowest shade.
    """

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Any, ...]]
    caption: str = ""
    heat: bool = False
    span: float = SPAN

    def texts(self) -> list[list[str]]:
        """The formatted cells; "-" for a missing value."""
        return [
            [
                "-" if value is None else printable(column.text(value))
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]

    def to_markdown(self) -> str:
        """The table in Markdown."""
        lines = [[column.title for column in self.columns]]
        lines.append([":--" if column.left else "--:" for column in self.columns])
        lines += [[escaped(text).replace("|", "\\|") for text in row] for row in self.texts()]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(
            part for part in (self.title and f"**{self.title}**", body, escaped(self.caption)) if part
        )

    def to_latex(self) -> str:
        """The table as LaTeX's ``tabular``; it needs the package booktabs."""
        rows = [[column.title for column in self.columns], *self.texts()]
        head, *body = (" & ".join(map(to_tex, row)) + r" \\" for row in rows)
        places = "".join("l" if column.left else "r" for column in self.columns)
        lines = [rf"\begin{{tabular}}{{{places}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*lines, r"\end{tabular}"]) + "\n"

    def to_csv(self) -> str:
        """The values in CSV, with keys as headings: a missing value is empty, a list or mapping is JSON.

        Text that a spreadsheet or a terminal would act on is written so that it does not: see :func:`to_cell`.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([to_cell(column.key) for column in self.columns])
        for row in self.rows:
            writer.writerow(
                [
                    json.dumps(v, default=asdict) if isinstance(v, dict | list | tuple) else to_cell(v)
                    for v in row
                ]
            )
        return text.getvalue()


@dataclass(frozen=True)
class Points:
    """A sentence and a list of points below it.

    Attributes:
        lead: the sentence.
        points: the points.
    """

    lead: str
    points: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.lead, *(f"  {point}" for point in self.points)])

    def to_markdown(self) -> str:
        """The sentence and the list in Markdown."""
        return "\n".join([escaped(self.lead), *(f"- {escaped(point)}" for point in self.points)])


@dataclass(frozen=True)
class StripRow:
    """A row of a :class:`Strip`.

    Attributes:
        name: its name.
        estimate: the mean.
        low: the lower bound of its interval; ``None`` without one.
        high: the upper bound; likewise.
        values: the value of each seed.
        failed: those of trials that failed where others did not, which are not in the mean; ``None`` without a value.
    """

    name: str
    estimate: float
    low: float | None
    high: float | None
    values: tuple[float, ...]
    failed: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Strip:
    """A chart for a terminal: one row per configuration, with a mark per seed, the mean and its interval.

    Attributes:
        title: what is measured, with its unit.
        rows: the rows, in order.
        factor: multiplies a value to convert it to that unit.
        decimals: the decimals of a mean in that unit.
        caption: shown below the chart.
    """

    title: str
    rows: tuple[StripRow, ...]
    factor: float
    decimals: int
    caption: str = ""


#: Tables, sentences and lists, in the order in which they are shown.
Report = list[Table | Points | str]


def to_markdown(report: Report) -> str:
    """A report as Markdown."""
    return "\n\n".join(escaped(part) if isinstance(part, str) else part.to_markdown() for part in report)


def escaped(text: str) -> str:
    """Text with the characters escaped that would begin HTML, a link or an image."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    text = _LINK_TEXT_ENDS.sub("&#93;", text)
    return _ADDRESS.sub(lambda found: f"&#{ord(found[0])};", text)


def to_tex(text: str) -> str:
    """Text with the characters escaped that mean something to LaTeX."""
    return "".join(_TEX.get(character, character) for character in text)


_TEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "×": r"$\times$", "→": r"$\to$", "−": "$-$", "<": "$<$", ">": "$>$"},
}
#: The end of a link's text; the beginning of what is made a link without being marked as one.
_LINK_TEXT_ENDS = re.compile(r"\](?=[(\[:])")
_ADDRESS = re.compile(r":(?=//)|(?<=mailto):|(?<=xmpp):|(?<=www)\.", re.IGNORECASE)
#: What makes a cell a formula, after any number of apostrophes, which mark text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def to_cell(value: Any) -> Any:
    """A value as a cell of CSV: numbers as they are, and text so that no spreadsheet or terminal acts on it.

    Text with control characters is written as JSON; text that begins as a formula does, behind an apostrophe.
    """
    if not isinstance(value, str):
        return value
    if value.startswith('"') or not value.replace("\n", "").replace("\t", "").isprintable():
        return json.dumps(value)
    return f"'{value}" if _FORMULA.match(value) else value


def from_cell(cell: str) -> str:
    """The text of a cell that :func:`to_cell` has written.

    Raises:
        ValueError: it is not such a cell.
    """
    if cell.startswith('"'):
        return str(json.loads(cell))
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def percent(value: float) -> str:
    """0.974 → 97.40."""
    return f"{100 * value:.2f}"


def spread(summary: Summary) -> str:
    """16.3 [15.9, 17.0]: the mean of times, the least and the most; 16.3 of one trial."""
    mean = tenth(summary.interval.estimate)
    if len(summary.values) == 1:
        return mean
    return f"{mean} [{tenth(min(summary.values))}, {tenth(max(summary.values))}]"


#: What captions say of :func:`spread`.
TIMES_NOTE = (
    "Time: training only, the mean [least, most]. The trials of a study share the machine, so its times are not "
    "compared."
)


def amount(value: float, measured: Metric = _ACCURACY) -> str:
    """0.0031 → 0.31 points."""
    return f"{measured.text(value)} {measured.unit}".rstrip()


def plus_minus(summary: Summary, measured: Metric = _ACCURACY) -> str:
    """97.40 ± 0.31, or the values of fewer than three seeds: 97.10, 97.70; with † if it is the mean of a mixture.

    Where the interval ends at 0 or 100 %: 97.40 [91.20, 100.00].
    """
    mark = " †" if summary.is_mixture else ""
    if not summary.has_interval:
        return ", ".join(map(measured.text, summary.values)) + mark
    interval = summary.interval
    if interval.half_width is None:
        return bounded(interval, measured) + mark
    return f"{measured.text(interval.estimate)} ± {measured.text(interval.half_width)}{mark}"


def signed(summary: Summary, measured: Metric = _ACCURACY) -> str:
    """+0.80 [+0.68, +0.92], or the values of fewer than three seeds: +0.70, +0.90."""
    if not summary.has_interval:
        return ", ".join(_signed(value, measured) for value in summary.values)
    return signed_interval(summary.interval, measured)


def signed_interval(interval: Interval, measured: Metric = _ACCURACY) -> str:
    """+0.80 [+0.68, +0.92]; +0.80 where the bounds are not known."""
    estimate, low, high = (
        _signed(each, measured) for each in (interval.estimate, interval.low, interval.high)
    )
    return estimate if math.isnan(interval.low) else f"{estimate} [{low}, {high}]"


def _signed(value: float, measured: Metric) -> str:
    return f"{measured.factor * value + 0.0:+.{measured.decimals}f}"


def means_note(summaries: Sequence[Summary | None], confidence: float = 0.95) -> str:
    """The sentence of a caption that explains the summaries in its table: means with intervals, or values."""
    known = [summary for summary in summaries if summary is not None]
    if not any(summary.has_interval for summary in known):
        return f"The value of each {'fold and seed' if _are_corrected(known) else 'seed'}."
    over, method = _method(known)
    note = f"Means over {over} ± their {level(confidence)} {method}"
    few = any(not summary.has_interval for summary in known)
    note = f"{note}; the values themselves where there are fewer than three." if few else f"{note}."
    if any(summary.has_interval and summary.interval.half_width is None for summary in known):
        note += " Bounds are shown where an interval ends at 0 or 100 %."
    if any(summary.is_mixture for summary in known):
        note += " †: some trials collapsed, so the mean describes neither them nor the others."
    return note


def failure_columns(
    groups: Sequence[Configuration], confidence: float = 0.95
) -> list[tuple[Column, list[Any]]]:
    """The columns on trials that diverged or collapsed, each with its values; none if there are no such trials.

    The other trials are shown by the metric that is reported of them.

    Args:
        groups: the configurations, one per row.
        confidence: nominal coverage of the intervals of means.
    """
    if not any(group.failures for group in groups):
        return []
    reported = report_metric(group.spec for group in groups)
    rates = [(group.failure_rate, len(group.failures)) if group.failure_rate else None for group in groups]
    return [
        (Column("failures", "collapsed [95 %]", _rate), rates),
        (
            Column(
                "survivors",
                f"{title(reported)} of the others",
                partial(plus_minus, measured=metric(reported)),
            ),
            [group.survivors.summary(reported, confidence) for group in groups],
        ),
    ]


#: What captions say of :func:`failure_columns`.
FAILURES_NOTE = (
    "Collapsed: trials that diverged, or whose test accuracy is not above that of always predicting the most frequent "
    "class, with the Wilson interval of their share; they count as failures in every comparison."
)


def _rate(value: tuple[Interval, int]) -> str:
    """6 of 20, 30 % [15, 52]; 0 of 20 as "0"."""
    rate, number = value
    if not number:
        return "0"
    return f"{number} of {rate.n}, {100 * rate.estimate:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def replicate(groups: Iterable[Configuration]) -> str:
    """What to call a trial of these configurations: "seed", or "trial" where a seed has several, one for each fold."""
    return "trial" if any(group.overlap for group in groups) else "seed"


def _are_corrected(summaries: Sequence[Summary]) -> bool:
    """Whether the values come from folds too, not from seeds alone."""
    return any(summary.interval.is_corrected for summary in summaries)


def _method(summaries: Sequence[Summary]) -> tuple[str, str]:
    """What means are over, and what their intervals are."""
    if not _are_corrected(summaries):
        return "seeds", "Student t intervals"
    if all(_are_corrected([each]) for each in summaries):
        return (
            "folds and seeds",
            "intervals, corrected because training sets of folds overlap (Nadeau and Bengio, 2003)",
        )
    return (
        "seeds (and folds)",
        "intervals, corrected where training sets of folds overlap (Nadeau and Bengio, 2003)",
    )


def converged(value: Convergence) -> str:
    """12.3; "12.3, reached by 3 of 5"; "not reached"."""
    if value.mean_epoch is None:
        return "not reached"
    some = value.num_converged < value.num_trials
    return tenth(value.mean_epoch) + (
        f", reached by {value.num_converged} of {value.num_trials}" if some else ""
    )


def level(value: float) -> str:
    """0.05 → 5 %, 0.003125 → 0.312 %, 0.996875 → 99.688 %."""
    return f"{round(100 * value, 3):g} %"


def within(bounds: tuple[float, float, float], measured: Metric = _ACCURACY) -> str:
    """97.40 [96.22, 98.21]."""
    value, low, high = map(measured.text, bounds)
    return f"{value} [{low}, {high}]"


def bounded(interval: Interval, measured: Metric = _ACCURACY) -> str:
    """A number with the bounds of its interval: 97.40 [96.22, 98.21]."""
    return within((interval.estimate, interval.low, interval.high), measured)


def tenth(value: float) -> str:
    """4.25 → 4.2."""
    return f"{value:.1f}"


def duration(value: float) -> str:
    """4.2 s, 3 min 20 s, 2 h 5 min."""
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def thousands(value: int) -> str:
    """1199882 → 1,199,882."""
    return f"{value:,}"


def count(number: int, noun: str) -> str:
    """1 trial, 2 trials."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def capitalized(text: str) -> str:
    """Text with its first letter in upper case, and the others as they are."""
    return text[:1].upper() + text[1:]


def listed(names: list[str]) -> str:
    """A, B and C."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def field_columns(names: Sequence[str], trials: Sequence[TrialResult]) -> tuple[Column, ...]:
    """Columns for fields of the trials' specifications; models of the same name are told apart by their modules.

    Args:
        names: the fields.
        trials: all trials of the table.
    """
    models = model_names(trial.model for trial in trials)
    return tuple(
        Column(name, field_title(name), partial(setting, name, models=models), left=_is_words(name))
        for name in names
    )


def _is_words(name: str) -> bool:
    """Whether the values of a field are words."""
    field = TrialSpec.model_fields.get(name)
    return field is not None and isinstance(field.default, str | tuple)
