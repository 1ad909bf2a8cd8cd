"""What dlbench says of a study: tables and sentences as plain data, for a terminal, Markdown, CSV or JSON.

A report is a list of parts, each a :class:`Table` or a paragraph. Accuracies are in [0, 1] in the data and
percent where they are shown; "±" is half the width of a 95 % interval.

| module | what it holds |
|---|---|
| `tables` | the table, and how numbers are written |
| `configurations` | trials that repeat one another with other seeds |
| `studies` | the reports of one trial and of a grid |
| `comparison` | the report of a comparison of architectures |
| `verdicts` | pre-registered claims, and what the trials say of them |
| `protocols` | two protocols side by side; spread between seeds by source |
| `histories` | the curves of every configuration |
| `document` | a report of studies in Markdown |
| `selection` | the configuration that a grid chose, and what that choice is worth |
| `outlook` | how many seeds would probably settle what is open |
| `same_images` | McNemar's test of networks on the same test images |
| `plots` | learning curves in the terminal |
| `listings` | trials in full, plans, studies, data sets, the machine |
"""

from dlbench.analysis.comparison import winner
from dlbench.report.listings import (
    data_report,
    datasets_table,
    info_report,
    origin,
    plan_record,
    plan_report,
    records_table,
    schedule_in_words,
    studies_table,
)
from dlbench.report.plots import Plot, plots_report
from dlbench.report.protocols import protocol_report, spread_report
from dlbench.report.same_images import same_images_report
from dlbench.report.studies import (
    BY_ACCURACY,
    findings,
    study_record,
    study_report,
    times_report,
    trial_table,
)
from dlbench.report.tables import Column, Report, Table, count, duration, percent, to_markdown
from dlbench.report.verdicts import claims_report

__all__ = [
    "BY_ACCURACY",
    "Column",
    "Plot",
    "Report",
    "Table",
    "claims_report",
    "count",
    "data_report",
    "datasets_table",
    "duration",
    "findings",
    "info_report",
    "origin",
    "percent",
    "plan_record",
    "plan_report",
    "plots_report",
    "protocol_report",
    "records_table",
    "same_images_report",
    "schedule_in_words",
    "spread_report",
    "studies_table",
    "study_record",
    "study_report",
    "times_report",
    "to_markdown",
    "trial_table",
    "winner",
]
