"""The majority class and published results stand beside one's own."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from conftest import SMALL

import dlbench
from dlbench import report
from dlbench.analysis.baselines import baselines
from dlbench.errors import ConfigError
from dlbench.report import exports, to_markdown
from dlbench.report.baselines import baseline_table
from dlbench.spec import config
from dlbench.spec.published import Published
from dlbench.stats.linear import least_squares, linear_scores, logistic_regression
from dlbench.storage.results import split_key
from dlbench.storage.store import Store
from dlbench.studies.baselines import linear_models

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


def test_linear_models_are_those_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 5))
    numbers = features @ rng.normal(size=5) + rng.normal(size=120) + 3
    labels = np.digitize(numbers, [2, 3, 4])
    ours = logistic_regression(features, labels, 4, max_iter=1000)
    theirs = linear_model.LogisticRegression(max_iter=1000, tol=1e-8).fit(features, labels)
    ours = ours - ours.mean(axis=1, keepdims=True)  # the penalty leaves the mean of the biases open
    expected = np.vstack([theirs.coef_.T, theirs.intercept_])
    np.testing.assert_allclose(ours, expected - expected.mean(axis=1, keepdims=True), atol=2e-3)
    ridge = linear_model.Ridge().fit(features, numbers)
    np.testing.assert_allclose(least_squares(features, numbers)[:, 0], [*ridge.coef_, ridge.intercept_])
    np.testing.assert_allclose(
        linear_scores(features, least_squares(features, numbers))[:, 0], ridge.predict(features)
    )


def test_linear_models_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(2000, 500)).astype(np.float32), rng.integers(0, 10, 2000)
    fitted = []
    for threads in (1, 4):
        with threadpoolctl.threadpool_limits(threads):
            fitted.append(logistic_regression(features, labels, 10, max_iter=5).tobytes())
    assert fitted[0] == fitted[1]


def test_a_linear_model_is_fitted_once_per_split(compared: dlbench.StudyResult, tmp_path: Path) -> None:
    trials = [trial.trial for trial in compared]
    fitted = linear_models(trials, {}, None)
    assert [*fitted] == [split_key(trials[0]), split_key(trials[1])], "two rates, two seeds"
    assert linear_models(trials, fitted, None) == {}
    folder = Path(shutil.copytree(compared.folder, tmp_path / "s"))
    with Store(folder, write=True) as store:
        store.add_linear({key: fitted[key] for key in [*fitted][:1]})
        store.add_linear({key: fitted[key] for key in [*fitted][1:]})
    assert dlbench.open_study(folder).linear == fitted
    exported = exports.export(folder, tmp_path / "export")
    assert exported.result is not None
    assert exported.result.linear == fitted
    _, linear, *_ = baselines(dataclasses.replace(compared, linear=fitted))
    accuracies = [each.values["test_accuracy"] for each in fitted.values()]
    assert all(0.4 < value < 0.95 for value in accuracies)
    assert linear.values["test_accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert linear.values["num_params"] == 7850
    assert 0.4 < linear.values["best_val_accuracy"] <= 1
    text = report.to_markdown(report.study_report(dataclasses.replace(compared, linear=fitted)).parts)
    assert "Linear model: logistic regression on the pixels, mean over 2 splits. Published:" in text


@pytest.mark.slow
def test_a_comparison_has_a_linear_model(tmp_path: Path) -> None:
    study = dlbench.compare(model=["baseline", "lenet-5"], seeds=2, **SMALL)
    found = dlbench.run(study, out=tmp_path / "s")
    assert len(found.linear) == 2
    assert (
        dlbench.open_study(tmp_path / "s").linear
        == found.linear
        == dlbench.run(study, out=tmp_path / "s").linear
    )


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
