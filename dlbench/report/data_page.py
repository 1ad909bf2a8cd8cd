"""What was found in a data set as one HTML page, with the images."""

from __future__ import annotations

from dlbench.analysis.label_errors import LabelErrors
from dlbench.data.arrays import Dataset
from dlbench.data.quality import Quality
from dlbench.files import scratch
from dlbench.report.figures.canvas import write
from dlbench.report.figures.samples import samples
from dlbench.report.page import Section, StudyPage, to_html
from dlbench.report.studies import StudyReport
from dlbench.report.tables import Report, Table


def data_page(
    dataset: Dataset, found: Quality, errors: LabelErrors | None, parts: Report, command: str
) -> str:
    """The page of a check; equal input gives equal bytes.

    Args:
        dataset: the data set.
        found: what its check found.
        errors: likely label errors, if they were looked for.
        parts: its tables and sentences.
        command: the command that checks it again.
    """
    drawings = samples(dataset, found, errors)
    with scratch() as folder:
        for drawing in drawings:
            write(drawing, folder)
        title = f"Data set {dataset.name}"
        page = StudyPage(
            name=dataset.name,
            title=title,
            description=dataset.source,
            report=StudyReport(findings=parts),
            trials=Table("", (), ()),
            figures=tuple(drawing.about for drawing in drawings),
            figures_dir=folder,
            manifest={"digest": dataset.digest},
            commands=(command,),
        )
        return to_html(title, [Section(title, "", page)])
