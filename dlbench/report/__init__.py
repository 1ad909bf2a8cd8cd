"""Reports: findings as tables, sentences and figures, for a terminal, Markdown, HTML, CSV and JSON.

A report is a list of parts: tables, plots, sentences and lists. Accuracies are in [0, 1] in the data and in percent
where they are shown; "±" is half the width of a 95 % interval. Nothing is concluded here: see `dlbench.analysis`.

| module | what it holds |
|---|---|
| `tables` | tables, sentences, and the format of numbers |
| `studies` | the report of a study, part by part |
| `comparison` | the comparison of models |
| `datasets` | the comparison over several data sets |
| `ablation` | the effects of an ablation or a factorial design |
| `search` | what a search found |
| `selection` | the configuration that a grid selected |
| `outlook` | how many seeds would separate configurations |
| `verdicts` | the verdicts on pre-registered claims |
| `crossings` | where learning curves cross |
| `collapse` | the learning rate at which runs collapse |
| `few_seeds` | what studies with few seeds would have concluded |
| `published` | published runs among those of one's own seeds |
| `protocols` | validation against test accuracy; variation by source of randomness |
| `histories` | the curves of all configurations, for CSV |
| `listings` | trials in full, plans, studies, data sets, the machine |
| `catalog` | what can be named: parts with their arguments, metrics, data sets |
| `plots` | learning curves as data |
| `shades` | the shades of heat maps |
| `terminal`, `terminal_plots`, `progress` | what a terminal shows |
| `page`, `document` | HTML and Markdown |
| `forest` | claims as a forest plot on the page |
| `notes` | notes in Markdown on the page |
| `trackers` | studies as runs of MLflow and Weights & Biases |
| `notebook` | what a notebook shows |
| `watching` | when to write a report anew while a study is trained |
| `exports` | studies as text files, written and read back |
| `figures` | figures in SVG and PNG |
"""

from dlbench.report.listings import (
    data_report,
    datasets_table,
    garbage_table,
    info_report,
    origin,
    plan_record,
    plan_report,
    records_table,
    schedule_in_words,
    studies_records,
    studies_table,
)
from dlbench.report.plots import Plot, plots_report
from dlbench.report.search import progress_of_search
from dlbench.report.studies import StudyReport, study_record, study_report, trial_table, trials_of_studies
from dlbench.report.tables import Column, Points, Report, Strip, Table, count, duration, percent, to_markdown

__all__ = [
    "Column",
    "Plot",
    "Points",
    "Report",
    "Strip",
    "StudyReport",
    "Table",
    "count",
    "data_report",
    "datasets_table",
    "duration",
    "garbage_table",
    "info_report",
    "origin",
    "percent",
    "plan_record",
    "plan_report",
    "plots_report",
    "progress_of_search",
    "records_table",
    "schedule_in_words",
    "studies_records",
    "studies_table",
    "study_record",
    "study_report",
    "to_markdown",
    "trial_table",
    "trials_of_studies",
]
