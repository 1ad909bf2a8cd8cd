"""The command diagnose, and ``results --by``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlbench.cli.options import DataDir, Json, Study, Values, takes
from dlbench.cli.studies import print_json, study_folder
from dlbench.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from dlbench.analysis.energy import Rates
    from dlbench.studies.result import StudyResult

#: What ``diagnose`` shows.
DIAGNOSES = ("calibration", "fit", "cost", "slices", "robustness")
#: What it shows unless something is named: what need not be computed.
_STORED = DIAGNOSES[:4]
#: Configurations whose tables a terminal shows; JSON has all of them.
_SHOWN = 3


def show_by(result: StudyResult, by: str, style: str) -> None:
    """Show the scores of each class, or the accuracy of each slice.

    Args:
        result: the trials that were chosen.
        by: "class", the name of slices of the data set, a rule, or a column of a CSV file, ``FILE.csv:COLUMN``.
        style: the format of ``results``.
    """
    from dlbench.analysis.by_slice import slices_of
    from dlbench.report import diagnosis as words

    if by == "class":
        show_each(result, result.by_class(), words.by_class_report, words.by_class_record, "by_class", style)
    else:
        path, is_column, column = by.partition(".csv:")
        if is_column:
            found = result.by_slice(slices_of(Path(f"{path}.csv"), column), name=column)
        else:
            found = result.by_slice(by)
        show_each(result, found, words.by_slice_report, words.by_slice_record, "by_slice", style)


@dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """The flags of ``diagnose``."""

    study: Study
    show: Annotated[
        Values,
        typer.Option(
            "--show", metavar="NAME...", help=f"Any of {', '.join(DIAGNOSES)} [all but robustness]."
        ),
    ] = None
    data_dir: DataDir = None
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="PRICE", help="cost: price of an hour of one worker (a core or GPU)."),
    ] = None
    watts: Annotated[
        str | None,
        typer.Option("--watts", metavar="N", help="cost: power of one worker [as counted, else 4 per core]."),
    ] = None
    carbon: Annotated[
        str | None,
        typer.Option("--carbon", metavar="N", help="cost: grams of CO2 equivalent per kWh [475]."),
    ] = None
    country: Annotated[
        str | None,
        typer.Option(
            "--country",
            metavar="CODE",
            help="cost: the same by a country's electricity, DEU; needs codecarbon.",
        ),
    ] = None
    as_json: Json = False

    def rates(self) -> Rates:
        """By what energy, carbon dioxide and price are computed.

        Raises:
            InputError: a number is none, or both --carbon and --country are given.
        """
        from dlbench.analysis.energy import DEFAULT, Rates, country_rates

        given = {name: _positive(name, getattr(self, name)) for name in ("watts", "carbon", "rate")}
        if self.country is not None and given["carbon"] is not None:
            raise InputError(
                "--carbon and --country both say what a kilowatt hour emits", remedy="give one of them"
            )
        carbon, origin = DEFAULT.carbon, DEFAULT.origin
        if given["carbon"] is not None:
            carbon, origin = given["carbon"], "as stated"
        elif self.country is not None:
            carbon, origin = country_rates(self.country)
        return Rates(given["watts"], carbon, origin, given["rate"])


def _positive(field: str, text: str | None) -> float | None:
    """A number above 0."""
    with contextlib.suppress(ValueError):
        if text is None or 0 < float(text) < 1e9:
            return None if text is None else float(text)
    raise InputError.must_be(field, "a number above 0", text)


@takes(DiagnoseOptions)
def diagnose(options: DiagnoseOptions) -> None:
    """Diagnose the networks of a study: calibration, over- and underfitting, cost, slices, robustness.

    Everything but robustness is computed from what the study stores. For robustness, the networks are run on corrupted
    images.
    """
    from dlbench.report import diagnosis, terminal
    from dlbench.studies.result import open_study

    wanted = options.show or list(_STORED)
    for name in wanted:
        if name not in DIAGNOSES:
            raise UnknownNameError("diagnosis", name, DIAGNOSES, field="show")
    rates = options.rates()
    result = open_study(study_folder(options.study))
    record: dict[str, Any] = {"study": result.summary()}
    parts: list[Any] = []
    for name in dict.fromkeys(wanted):
        match name:
            case "calibration":
                found = result.calibration(options.data_dir)
                record[name] = [diagnosis.calibration_record(*each) for each in found.items()]
                parts += _parts(found, diagnosis.calibration_report)
            case "fit":
                fits = result.fit(options.data_dir)
                record[name] = diagnosis.fit_record(fits)
                parts += diagnosis.fit_report(fits)
            case "cost":
                costs = result.cost(options.data_dir, rates)
                record[name] = diagnosis.cost_record(costs)
                parts += diagnosis.cost_report(costs)
            case "slices":
                record[name] = []
                if options.show and not result.slice_names():
                    parts.append(
                        "No data set carries slices. 'dlbench results STUDY --by brightness' makes some by brightness."
                    )
                for by in result.slice_names():
                    try:
                        sliced = result.by_slice(by, options.data_dir)
                    except InputError as error:  # such as one slice only
                        parts.append(f"No accuracies by {by}: {error}.")
                        continue
                    record[name] += [diagnosis.by_slice_record(*each) for each in sliced.items()]
                    parts += _parts(sliced, diagnosis.by_slice_report)
            case "robustness":
                with terminal.waiting("running the networks on corrupted images", quiet=options.as_json):
                    robust = result.robustness(options.data_dir)
                record[name] = [diagnosis.robustness_record(*each) for each in robust.items()]
                parts += diagnosis.robustness_report(robust)
    if options.as_json:
        print_json(record)
    else:
        terminal.show(parts)


def _parts(found: Mapping[str, Any], to_report: Any) -> list[Any]:
    """The reports of the best configurations, and how many are not shown."""
    parts: list[Any] = []
    for label, each in list(found.items())[:_SHOWN]:
        parts += to_report(label, each)
    if len(found) > _SHOWN:
        parts.append(
            f"The {_SHOWN} best of {len(found)} configurations by validation accuracy; --json shows all of them."
        )
    return parts


def show_each(
    result: StudyResult, found: Mapping[str, Any], to_report: Any, to_record: Any, key: str, style: str
) -> None:
    """Print what was found of each configuration.

    Args:
        result: the study.
        found: the findings by the label of their configuration.
        to_report: makes a report of a label and a finding.
        to_record: makes a record of them.
        key: the record's key in JSON.
        style: "table", "markdown" or "json".
    """
    from dlbench import report
    from dlbench.report import terminal

    if style == "csv":
        raise InputError("--format csv holds one table; use --format json or markdown")
    if style == "json":
        records = [to_record(label, each) for label, each in found.items()]
        print_json({"study": result.summary(), key: records})
        return
    parts = _parts(found, to_report)
    if style == "markdown":
        terminal.text(report.to_markdown(parts))
    else:
        terminal.show(parts)
