"""Figures: which are drawn, what they say, and that the same study gives the same bytes."""

from __future__ import annotations

import io
import json
import math
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import dlbench
from dlbench import data
from dlbench.analysis.configurations import best_first, configurations
from dlbench.analysis.cost import pareto_front
from dlbench.errors import StoreError
from dlbench.records import Epoch, Outcome, TrialStatus
from dlbench.report import figures
from dlbench.report.figures import accuracies, canvas, curves, vector
from dlbench.report.page import Figure, read_figures
from dlbench.spec import designs
from dlbench.spec.study import DESIGNS
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.storage.results import TrialResult
from dlbench.studies.result import StudyResult

SECONDS = {"SimpleCNN": 6.7, "Baseline": 1.1, "Stabilized": 1.2, "High-Vision": 2.2, "Modernist": 1.3}
PARAMETERS = {"SimpleCNN": 1_199_882, "High-Vision": 215_370}


def made_up(kind: Any = "grid", num_epochs: int = 3, **axes: Any) -> StudyResult:
    """A study with plausible figures: larger learning rates are better, and at 1 every trial diverges."""
    spec = designs.expand(
        {"train_size": 100, "val_size": 50, "num_epochs": num_epochs, **axes}, DESIGNS[kind]
    )
    return StudyResult(spec, tuple(map(made_up_trial, spec.trials)), Path("runs/made-up"), 12.0)


def made_up_trial(spec: TrialSpec) -> TrialResult:
    trial = Trial(spec=spec, data_digest="0" * 64)
    if spec.learning_rate >= 1:
        return TrialResult(trial, TrialStatus.DIVERGED, Outcome(times={"train": 1.0}))
    draw = random.Random(f"{spec.model} {spec.learning_rate} {spec.seed}")
    level = 0.9 + min(spec.learning_rate, 0.05) - spec.batch_size / 1e4 + draw.gauss(0, 0.003)
    history = tuple(
        Epoch(2 / n, level - 0.2 / n, 2.2 / n, level - 0.25 / n) for n in range(1, spec.num_epochs + 1)
    )
    outcome = {
        "best_val_accuracy": history[-1].val_accuracy,
        "best_epoch": spec.num_epochs,
        "convergence_epoch": spec.num_epochs,
        "test_accuracy": level - 0.01,
        "test_accuracy_low": level - 0.03,
        "test_accuracy_high": level + 0.01,
        "train_time_s": SECONDS.get(spec.model, 1.0) * (1 + 8 / spec.batch_size) * draw.uniform(0.95, 1.05),
        "num_params": PARAMETERS.get(spec.model, 206_922),
        "confusion_matrix": [[40, 8, 2], [0, 50, 0], [0, 5, 45]],
    }
    return TrialResult(trial, TrialStatus.COMPLETE, Outcome.from_record(outcome), history)


def drawn(result: StudyResult, folder: Path) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures.draw(result, folder)}


@pytest.mark.parametrize(
    ("made", "names"),
    [
        ({"kind": "train"}, ["learning-curves", "confusion"]),
        ({"kind": "train", "num_epochs": 1}, ["confusion"]),
        *(
            pytest.param(made, names, marks=pytest.mark.slow)
            for made, names in (
                ({"seed": range(3)}, ["seeds", "learning-curves", "confusion"]),
                ({"learning_rate": [1e-3, 1e-2]}, ["learning-curves", "confusion"]),
            )
        ),
        (
            {"learning_rate": [1e-3, 1e-2], "batch_size": [8, 16], "seed": [0, 1]},
            ["seeds", "heat-map", "cost", "learning-curves", "confusion"],
        ),
        (
            {"learning_rate": [1e-3, 2e-3, 3e-3, 1], "batch_size": [8, 16, 32]},
            ["heat-map", "cost", "learning-curves-losses", "learning-curves-accuracies", "confusion"],
        ),
        (
            {"kind": "compare-archs", "model": list(SECONDS), "seed": range(4)},
            ["seeds", "cost", "learning-curves", "confusion"],
        ),
        ({"learning_rate": 1.0}, []),
    ],
)
def test_the_figures_that_make_sense_are_drawn(
    made: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    found = figures.draw(made_up(**made), tmp_path)
    assert [figure.name for figure in found] == names
    assert read_figures(tmp_path) == found
    assert {path.name for path in tmp_path.iterdir()} == {
        "figures.json",
        *(f"{name}.{kind}" for name in names for kind in ("svg", "png")),
    }
    assert all(figure.title and figure.alt and figure.caption for figure in found)


def test_equal_studies_give_equal_bytes_whatever_the_settings_and_touch_none(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, matplotlib, test_figures as t\n"
        "matplotlib.rcParams['font.size'] = float(sys.argv[2])\n"
        "t.figures.draw(t.made_up(learning_rate=[1e-3, 1e-2], seed=[0, 1]), pathlib.Path(sys.argv[1]))\n"
        "assert matplotlib.rcParams['font.size'] == float(sys.argv[2])\n"
        "print({'matplotlib.pyplot', 'jax'} & set(sys.modules))\n"
    )
    for name, size in (("a", "10"), ("b", "30")):
        command = [sys.executable, "-c", code, str(tmp_path / name), size]
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"
    first, second = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())} for name in "ab"
    )
    assert len(first) > 4
    assert first == second
    assert not any(b"<dc:date>" in content for content in first.values())


def test_a_curve_is_a_mean_with_students_interval() -> None:
    result = made_up(seed=[0, 1, 2])
    for trial, accuracy in zip(result.trials, (0.70, 0.80, 0.90), strict=True):
        object.__setattr__(trial, "history", (Epoch(1.0, 0.5, 1.0, 0.5), Epoch(0.5, 0.9, 0.4, accuracy)))
    (group,) = configurations(result.trials)
    found = curves.curve(group, "val_accuracy")
    assert found.epochs == [1, 2]
    assert found.mean == pytest.approx([50.0, 80.0])
    assert found.low == pytest.approx([50.0, 55.16], abs=0.01), "t(2, 0.975) * 10 / sqrt(3) = 24.84"
    assert found.high == pytest.approx([50.0, 100.0]), "no accuracy is above 100 %"
    (alone,) = configurations(result.trials[:1])
    assert math.isnan(curves.curve(alone, "val_loss").low[0])


def test_the_pareto_front_is_what_nothing_beats_in_both() -> None:
    costs = {"cheap": 1.0, "as cheap, worse": 1.0, "dear, worse": 2.0, "best": 3.0, "dearest": 4.0}
    accuracy = {"cheap": 0.9, "as cheap, worse": 0.8, "dear, worse": 0.85, "best": 0.95, "dearest": 0.95}
    assert pareto_front(costs, accuracy) == ("cheap", "best")


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    result = made_up(learning_rate=[round(0.001 + 0.001 * i, 4) for i in range(22)], seed=[0, 1])
    found = drawn(result, tmp_path)
    assert "The best 19 and the worst of 22." in found["seeds"].caption
    for name in ("learning-curves-losses", "learning-curves-accuracies"):
        assert (
            "The 11 configurations of the highest validation accuracy and the worst, of 22"
            in found[name].caption
        )
        worst = best_first(configurations(result.trials))[-1].spec.learning_rate
        assert found[name].alt.count(" ends at ") == 12
        assert f"lr {worst:g} ends" in found[name].alt
    poor = result.trials[0]
    low = replace(poor, outcome=Outcome.from_record({**poor.outcome, "best_val_accuracy": 0.2}))
    also = replace(result, trials=(low, replace(result.trials[1], outcome=low.outcome), *result.trials[2:]))
    with canvas.style():
        (drawing,) = accuracies.seeds(canvas.View(also))
    assert "Arrows: more than 10 points below the best." in drawing.about.caption
    axes = drawing.canvas.axes[0]
    assert [text.get_text() for text in axes.texts] == ["20.00 %, to the left of this chart"]
    assert axes.get_xlim()[0] > 50


def test_configurations_that_failed_stay_in_the_charts(tmp_path: Path) -> None:
    result = made_up(learning_rate=[1e-3, 1e-2, 1], batch_size=[8, 16], seed=[0, 1])
    with canvas.style():
        (drawing,) = accuracies.seeds(canvas.View(result))
    rows = [label.get_text() for label in drawing.canvas.axes[0].get_yticklabels()]
    assert rows[-2:] == ["lr 1, batch size 8", "lr 1, batch size 16"]
    assert "lr 1, batch size 8: all 2 trials diverged." in drawing.about.alt


def test_drawings_are_small_and_have_colours_for_both_backgrounds(tmp_path: Path) -> None:
    result = made_up("compare-archs", model=list(SECONDS), seed=range(4))
    with canvas.style():
        (drawing,) = accuracies.seeds(canvas.View(result))
        image = io.BytesIO()
        drawing.canvas.savefig(image, format="svg")
    original = image.getvalue().decode()
    small = vector.compact(original)
    assert len(small) < len(original) / 2
    assert vector.compact(small) == small
    assert "Stabilized</text>" in small, "text stays text"
    assert small.count("font-family") == 1
    light, _, dark = small.partition("@media(prefers-color-scheme:dark)")
    assert vector.DARK["#ffffff"] in dark.partition("</style>")[0]
    assert vector.DARK["#ffffff"] not in light
    root = ElementTree.fromstring(small)
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#(\w+)', small)) == set(ids)


@pytest.mark.parametrize(
    ("path", "drawn"),
    [
        ("M 0 0 \nL 10.04 0 \nL 10.04 -0.5 \nz", "m0 0h10.04v-.5z"),
        ("M 100.04 20 \nL 110.06 30.5", "m100 20l10.1 10.5"),
        ("M 1 2 \nQ 1.5 2.5 2 2 \nC 3 3 4 4 5.5 5.25", "m1 2q.5.5 1 0c1 1 2 2 3.5 3.25"),
        ("M 0 0 A 1 1 0 0 0 2 2", "M 0 0 A 1 1 0 0 0 2 2"),
    ],
)
def test_paths_are_written_as_steps(path: str, drawn: str) -> None:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><metadata/><path d="{path}"/></svg>'
    assert f'd="{drawn}"' in vector.compact(svg)


def test_trials_that_collapsed_are_crosses_beside_the_others(tmp_path: Path) -> None:
    result = made_up(learning_rate=[1e-3, 1e-2], seed=range(4))
    first = result.trials[0]
    fallen = {
        "best_val_accuracy": 0.1,
        "test_accuracy": 0.33,
        "test_accuracy_low": 0.2,
        "test_accuracy_high": 0.4,
    }
    low = replace(first, outcome=Outcome.from_record({**first.outcome, **fallen}))
    with canvas.style():
        (drawing,) = accuracies.seeds(canvas.View(replace(result, trials=(low, *result.trials[1:]))))
    axes = drawing.canvas.axes[0]
    assert any("1 of 4 collapsed" in label.get_text() for label in axes.get_yticklabels())
    assert axes.get_xlim()[0] > 50, "the accuracy of a collapsed trial does not stretch the axis"
    assert [len(line.get_xdata()) for line in axes.lines if line.get_marker() == "x"] == [1]
    assert "1 of 4 collapsed" in drawing.about.alt
    assert "Crosses: trials that diverged or collapsed" in drawing.about.caption
    with canvas.style():
        (whole,) = accuracies.seeds(canvas.View(result))
    assert "collapsed" not in whole.about.alt + whole.about.caption


def test_captions_and_alternative_texts_say_what_is_seen(tmp_path: Path) -> None:
    result = made_up(learning_rate=[1e-3, 1e-2], batch_size=[8, 16], seed=[0, 1, 2])
    found = drawn(result, tmp_path)
    best = dlbench.report.study_report(result).parts
    chosen = next(part for part in best if isinstance(part, str) and part.startswith("Highest"))
    assert "lr 0.01 and batch size 8" in found["heat-map"].alt
    assert chosen.startswith("Highest validation accuracy: lr 0.01, batch size 8")
    assert (
        "lr 0.01, batch size 8, chosen on validation images, summed over 3 seeds"
        in found["confusion"].caption
    )
    assert "405 of 450 predictions are correct" in found["confusion"].alt
    assert (
        "Most often confused: 0 predicted as 1, 24 times; 2 predicted as 1, 15 times"
        in found["confusion"].alt
    )
    assert found["seeds"].title == "Validation accuracy seed by seed", "a grid is there to choose from"
    compared = drawn(made_up("compare-archs", model=["baseline", "simplecnn"], seed=[0, 1]), tmp_path)
    assert compared["seeds"].title == "Test accuracy seed by seed"
    assert "parameters and floating-point operations" in compared["cost"].alt


def test_a_setting_at_which_every_trial_diverged_stays_on_the_map(tmp_path: Path) -> None:
    result = made_up(learning_rate=[1e-3, 1e-2, 1], batch_size=[8, 16])
    with canvas.style():
        (drawing,) = accuracies.heat_map(canvas.View(result))
    axes = drawing.canvas.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0.001", "0.01", "1"]
    assert [text.get_text() for text in axes.texts][-2:] == ["-", "-"]
    assert not any(text.get_text() == "-" for text in axes.texts[:-2])


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    models = ["mine:_Net", "mine:_Other"]
    result = made_up("compare-archs", model=models, model_args=[{"how": "$x$ \\frac{"}, {}], seed=[0, 1])
    assert "seeds" in drawn(result, tmp_path)
    with canvas.style():
        (drawing,) = curves.learning_curves(canvas.View(result))
    (legend,) = drawing.canvas.legends
    assert len(legend.get_texts()) == 4


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    found = drawn(made_up("compare-archs", model=["baseline", "simplecnn"]), tmp_path)
    assert "One seed, so there is no interval." in found["learning-curves"].caption
    assert "Fewer than three seeds, so there are no intervals." in found["cost"].caption


def test_the_looks_differ_without_colour() -> None:
    for part in zip(*canvas.LOOKS, strict=True):
        assert len(set(part)) == len(canvas.LOOKS)


def test_misclassified_images_are_those_most_seeds_get_wrong(
    small_result: dlbench.StudyResult, tmp_path: Path
) -> None:
    found = drawn(small_result, tmp_path)["misclassified"]
    assert {path.suffix for path in tmp_path.glob("misclassified.*")} == {".png"}, (
        "photographs are no drawings"
    )
    labels = data.load("mnist5k").test_labels
    groups = best_first(configurations(small_result.trials))
    logits = [np.load(trial.folder / "test_logits.npy") for trial in groups[0].trials]
    wrong = np.stack([answer.argmax(axis=1) != labels for answer in logits])
    assert f"24 of {wrong.any(axis=0).sum():,}, those that most networks misclassify first" in found.caption
    assert ("lr 0.01" if groups[0].spec.learning_rate == 1e-2 else "lr 0.001") in found.caption
    surest = max(
        np.flatnonzero(wrong.all(axis=0)),
        key=lambda i: sum(float(answer[i].max() - answer[i, labels[i]]) for answer in logits),
    )
    assert f"{labels[surest]} predicted as " in found.alt.partition(";")[0]
    assert "by 2 of 2 networks" in found.alt.partition(";")[0]


@pytest.mark.parametrize("spoil", ["missing", "shape", "pickle", "other data"])
def test_misclassified_images_are_left_out_where_they_are_not_known(
    spoil: str, small_result: dlbench.StudyResult, tmp_path: Path
) -> None:
    trial = small_result.trials[0]
    folder = tmp_path / "trials" / trial.id
    folder.mkdir(parents=True)
    logits = folder / "test_logits.npy"
    if spoil == "shape":
        np.save(logits, np.zeros((3, 10), np.float32))
    elif spoil == "pickle":
        np.save(logits, np.array([{}], dtype=object), allow_pickle=True)
    elif spoil == "other data":
        shutil.copy(trial.folder / "test_logits.npy", logits)
        trial = replace(trial, trial=trial.trial.model_copy(update={"data_digest": "0" * 64}))
        shutil.move(folder, folder.with_name(trial.id))
    lone = StudyResult(small_result.spec, (replace(trial, study_dir=tmp_path),), tmp_path)
    assert list(drawn(lone, tmp_path / "figures")) == ["learning-curves", "confusion"]


def test_nothing_is_prepared_or_downloaded_for_a_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(data, "load", lambda name: pytest.fail(f"{name} was to be loaded"))
    assert list(drawn(made_up("train", dataset="cifar10"), tmp_path)) == ["learning-curves", "confusion"]


@pytest.mark.parametrize(
    "text",
    ["[{]", "3", '[{"name": "a"}]', '[{"name": "a", "title": "", "alt": "", "caption": 3}]']
    + [json.dumps([{"name": name, "title": "", "alt": "", "caption": ""}]) for name in ("../a", "a/b", "")],
)
def test_a_damaged_list_of_figures_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(StoreError, match="is damaged: it is not a list of figures"):
        read_figures(tmp_path)


def test_a_folder_without_figures_has_none_and_a_link_is_not_followed(tmp_path: Path) -> None:
    assert read_figures(tmp_path) == ()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(StoreError, match="symbolic link"):
        figures.draw(made_up("train"), tmp_path / "link")
