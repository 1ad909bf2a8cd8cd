"""Notebooks: what results show, and the example, executed by a real kernel."""

from __future__ import annotations

import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest

import dlbench
from dlbench.errors import InputError
from dlbench.report import notebook
from dlbench.report.tables import Column, Points, Table

EXAMPLE = Path(__file__).parent.parent / "examples" / "notebook.ipynb"


class Cells(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_result_is_shown_as_its_report(small_result: dlbench.StudyResult) -> None:
    found = Cells(small_result._repr_html_())
    assert found.tags.count("table") == 1
    assert "Highest validation accuracy" in "".join(found.texts)
    for trial in small_result.trials:
        assert f"{100 * trial.test_accuracy:.2f}" in "".join(found.texts)


def test_html_is_escaped_and_long_tables_are_cut() -> None:
    rows = tuple((f"<b>{number}</b>", number) for number in range(25))
    table = Table("A <title>", (Column("name", "name", left=True), Column("n", "n", str)), rows)
    found = Cells(notebook.to_html([table, Points("Lead & more", ["<i>one</i>"]), "a\x1b[31m sentence"]))
    assert not {"b", "i", "title"} & {*found.tags}
    assert found.tags.count("tr") == 1 + 20
    text = "".join(found.texts)
    assert "And 5 rows more." in text
    assert "Lead & more" in text
    assert "\x1b" not in text


def test_figures_are_matplotlibs(small_result: dlbench.StudyResult) -> None:
    for figure in (small_result.plot(), small_result.plot_curves(), small_result.confusion()):
        assert isinstance(figure, matplotlib.figure.Figure)
    assert small_result.plot().axes[0].get_xlabel() == "validation accuracy (%)"
    assert small_result.plot_curves().axes[-1].get_xlabel() == "epoch"
    assert small_result.confusion().axes[0].get_ylabel() == "true class"


def test_a_figure_that_does_not_suit_says_what_it_takes(small_result: dlbench.StudyResult) -> None:
    with pytest.raises(InputError, match="nothing for a heat map: it takes two numeric settings"):
        small_result.heatmap()
    with pytest.raises(InputError, match="nothing for a Pareto front: it takes two configurations"):
        small_result.pareto()


def test_a_data_frame_is_short_unless_asked_for_in_full(small_result: dlbench.StudyResult) -> None:
    short, full = small_result.to_dataframe(), small_result.to_dataframe(full=True)
    assert {"id", "model", "learning_rate", "seed", "status", "test_accuracy", "train_time_s"} <= {*short}
    assert {"train_size", "num_epochs"} <= {*short}  # not at their defaults
    assert not {"weight_decay", "params_sha256", "roc_auc"} & {*short}
    assert len(short.columns) <= 20
    assert list(full) == list(small_result.trials[0].to_dict(history=False))
    assert short.equals(full[list(short)])


def test_a_table_for_latex(small_result: dlbench.StudyResult) -> None:
    lines = small_result.to_latex().splitlines()
    num_columns = lines[2].count("&") + 1
    assert num_columns >= 6
    assert lines[0] == rf"\begin{{tabular}}{{{'r' * num_columns}}}"
    assert lines[1] == r"\toprule"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert all(line.endswith(r"\\") for line in lines[4:-2])
    table = Table("", (Column("a", "a_b %"), Column("b", "b")), (("~^\\{}", "5 ± 1 & $2"),))
    assert r"a\_b \%" in table.to_latex()
    assert (
        r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{\} & 5 $\pm$ 1 \& \$2 \\" in table.to_latex()
    )


def test_studies_are_listed_below_a_path_given_as_text(small_result: dlbench.StudyResult) -> None:
    listed = dlbench.list_studies(str(small_result.folder.parent))
    assert [study.folder for study in listed] == [small_result.folder]


def test_this_process_is_no_notebook() -> None:
    assert not notebook.is_active()


@pytest.mark.slow
def test_the_example_runs_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    document = nbformat.read(EXAMPLE, as_version=4)
    nbclient.NotebookClient(document, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {
        cell.source.splitlines()[0]: [each.get("data", {}) for each in cell.outputs]
        for cell in document.cells
        if cell.cell_type == "code"
    }
    progress = outputs["study = dlbench.compare("][0]["text/html"]
    assert re.search(r"8/8 trials, 24/24 epochs.*, (\d+ min )?[\d.]+ s<", progress)
    assert {"TwoLayers", "<table"} <= {*re.findall("TwoLayers|<table", outputs["result"][0]["text/html"])}
    pictures = [line for line, found in outputs.items() if found and "image/png" in found[-1]]
    assert pictures == [
        *("result.plot()", "result.plot_curves()", "result.confusion()"),
        *("figure = result.pareto()", "grid = dlbench.run("),
    ]
    names = outputs['[study.name for study in dlbench.list_studies("runs")]'][0]["text/plain"]
    assert "compare-archs-" in names
    assert "grid-" in names
    assert (tmp_path / "pareto.svg").is_file()
