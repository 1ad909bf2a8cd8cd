"""The majority class and published results stand beside one's own."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

import dlbench
from dlbench import report
from dlbench.analysis.baselines import baselines
from dlbench.errors import ConfigError
from dlbench.report import exports, to_markdown
from dlbench.report.baselines import baseline_table
from dlbench.spec import config
from dlbench.spec.published import Published

TEXT = """
lr: [1e-3, 1e-2]
published:
  - name: LeNet-5
    source: LeCun et al., 1998
    test/accuracy: 0.9905
    num_params: 60000
  - {name: Slow, source: "https://example.org/slow", test_accuracy: 0.5, train_time_s: 62.35, convergence_epoch: 38}
"""
LENET = Published("LeNet-5", "LeCun et al., 1998", {"test_accuracy": 0.9905, "num_params": 60000.0})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.yaml"


def test_published_results_are_read(path: Path) -> None:
    path.write_text(TEXT)
    assert config.read(path).published[0] == LENET
    assert config.read_published(TEXT, path) == config.read(path).published
    assert config.read_published("", path) == ()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("3", "must be a list of mappings"),
        ("[{source: s, test/accuracy: 0.9}]", "has a name; got ''"),
        ("[{name: n, source: ' ', test/accuracy: 0.9}]", "has a source; got ' '"),
        ("[{name: n, source: s}]", "has a metric, such as"),
        ("[{name: n, source: s, test/accuracy: 98.5}]", "must be in [0, 1]; got 98.5; write 0.985"),
        ("[{name: n, source: s, test/accuracy: high}]", "test/accuracy must be a number; got 'high'"),
        ("[{name: n, source: s, acuracy: 0.9}]", "unknown key 'acuracy'"),
        ("[{name: n, source: s, test/accuracy: true}]", "must be a number"),
    ],
)
def test_bad_entries_are_refused_with_their_line(entry: str, said: str, path: Path) -> None:
    path.write_text(f"lr: 1e-3\npublished: {entry}\n")
    with pytest.raises(ConfigError) as caught:
        config.read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


@pytest.fixture
def compared(small_result: dlbench.StudyResult) -> dlbench.StudyResult:
    spec = small_result.spec.model_copy(update={"design": "comparison"})
    return dataclasses.replace(small_result, spec=spec, published=config.read_published(TEXT, Path("x.yaml")))


def test_the_majority_class_is_that_of_the_labels(compared: dlbench.StudyResult) -> None:
    majority, *others = baselines(compared)
    labels = dlbench.data.load("mnist5k").test_labels
    assert majority.values == {"test_accuracy": max((labels == label).mean() for label in range(10))}
    assert others == list(compared.published)


def test_baselines_are_rows_of_a_comparison(compared: dlbench.StudyResult) -> None:
    table = report.study_report(compared).findings[0]
    assert isinstance(table, report.Table)
    titles = [column.title for column in table.columns]
    rows = {row[titles.index("model")]: dict(zip(titles, row, strict=True)) for row in table.texts()[-3:]}

    def filled(name: str) -> dict[str, str]:
        return {title: text for title, text in rows[name].items() if text not in ("-", name)}

    assert filled("majority class") == {"test acc %": "10.00"}
    assert filled("LeNet-5 (published)") == {"test acc %": "99.05", "parameters": "60,000"}
    assert filled("Slow (published)") == {
        "test acc %": "50.00",
        "time s": "62.4",
        "convergence epoch": "38.0",
    }
    assert table.caption.endswith("Published: LeNet-5: LeCun et al., 1998; Slow: https://example.org/slow.")
    assert len(table.to_csv().splitlines()) == 1 + len(table.rows)
    record = report.study_record(compared)["baselines"]
    assert record[1] == {
        "name": "LeNet-5",
        "source": "LeCun et al., 1998",
        "test_accuracy": 0.9905,
        "num_params": 60000,
    }


def test_a_study_remembers_what_its_file_names(
    small_study: dlbench.StudySpec,
    small_result: dlbench.StudyResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_result.folder, "runs/first")
    result = dlbench.run(small_study, config=TEXT)
    assert result.published[0] == dlbench.open_study(result.folder).published[0] == LENET
    text = report.to_markdown(report.study_report(result).parts)
    assert "| LeNet-5 (published) | 60,000 | 99.05 | - | - | LeCun et al., 1998 |" in text
    assert "| majority class | - | 10.00 | - | - | the labels of the test images |" in text
    exported = exports.export(result.folder, Path("report") / "s")
    assert exported.result is not None
    assert exported.result.published == result.published
    assert "LeNet-5 (published)" in (Path("report") / "s" / "report.md").read_text()
    assert not report.study_record(small_result).keys() & {"baselines"}


def test_metrics_of_regressions_are_shown_too() -> None:
    text = to_markdown(
        [baseline_table([Published("Mean", "a book", {"test_rmse": 12.5, "num_params": 1.0})])]
    )
    assert "| baseline | parameters | test RMSE | source |" in text
    assert "| Mean (published) | 1 | 12.5000 | a book |" in text
