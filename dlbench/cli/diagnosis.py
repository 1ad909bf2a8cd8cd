"""What the accuracy hides: ``results --by``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlbench.cli.studies import print_json
from dlbench.errors import InputError

if TYPE_CHECKING:
    from dlbench.studies.result import StudyResult

#: Configurations whose tables a terminal shows; JSON has all of them.
_SHOWN = 3


def show_by(result: StudyResult, style: str) -> None:
    """Show the scores of each class.

    Args:
        result: the trials that were chosen.
        style: the format of ``results``.
    """
    from dlbench.report.diagnosis import by_class_record, by_class_report

    show_each(result, result.by_class(), by_class_report, by_class_record, "by_class", style)


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
    parts: list[Any] = []
    for label, each in list(found.items())[:_SHOWN]:
        parts += to_report(label, each)
    if len(found) > _SHOWN:
        parts.append(
            f"The {_SHOWN} best of {len(found)} configurations by validation accuracy; --filter chooses others, and "
            "--json shows all."
        )
    if style == "markdown":
        terminal.text(report.to_markdown(parts))
    else:
        terminal.show(parts)
