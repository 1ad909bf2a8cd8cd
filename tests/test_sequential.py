"""Comparisons that grow: the schedule, what each look may say, and studies that really grow and are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from test_report import study as made_up_study
from test_report import tables, words

import dlbench
from dlbench import report, stats
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.looks import alpha_of, last_look
from dlbench.cli.options import FLAGS
from dlbench.errors import SpecError, StoreError
from dlbench.execution import messages
from dlbench.records import TrialStatus
from dlbench.spec import designs, looks
from dlbench.spec.looks import Look, with_looks
from dlbench.spec.trial import TrialSpec
from dlbench.stats import mean_interval
from dlbench.storage.results import TrialResult
from dlbench.studies import growing
from dlbench.studies.result import StudyResult

TWO = {"model": ["baseline", "stabilized"]}


def comparison(**axes: Any) -> dlbench.StudySpec:
    return designs.expand({**TWO, "seed": [0, 1], **SMALL, **axes}, "comparison")


# The schedule.


@pytest.mark.parametrize(
    ("num_seeds", "max_seeds", "expected"),
    [
        (5, 20, (5, 10, 15, 20)),
        (5, 12, (5, 10, 12)),
        (5, 5, (5,)),
        (2, 3, (2, 3)),
        (2, 20, (2, 4, 6, 8, 10, 12, 14, 16, 18, 20)),
        (5, 100, (5, 16, 27, 38, 49, 60, 71, 82, 93, 100)),
    ],
)
def test_the_schedule_is_fixed_by_its_ends(num_seeds: int, max_seeds: int, expected: tuple[int, ...]) -> None:
    assert looks.schedule(num_seeds, max_seeds) == expected


def test_the_levels_of_all_looks_are_those_of_exact_boundaries() -> None:
    looks_at = (5, 10, 15, 20)
    levels = [alpha_of(Look(number, looks_at)) for number in (1, 2, 3, 4)]
    assert levels == list(stats.sequential_levels(looks_at))
    assert sum(levels) > 0.06, "looks share most of their data, so their levels add up to more than 5 %"
    shared = [alpha_of(Look(number, looks_at), 10) for number in (1, 2, 3, 4)]
    assert shared == [10 * level for level in stats.sequential_levels(looks_at, 0.005)]
    for tests in (1, 2, 5, 20, 45):  # so that no step of Holm's correction exceeds its share
        assert all(
            alpha_of(Look(number, looks_at), 46) <= alpha_of(Look(number, looks_at), tests) + 1e-12
            for number in (1, 2, 3, 4)
        )


def test_further_seeds_follow_the_largest() -> None:
    study = with_looks(comparison(seed=[7, 3]), 4)
    assert study.looks == (2, 4)
    assert [spec.seed for spec in study.trials] == [3, 7, 8, 9] * 2
    assert looks.seeds_at(Look(1, study.looks), (spec.seed for spec in study.trials)) == {3, 7}
    assert growing.grown(study) == study, "a study that has grown is what it was planned to be"


@pytest.mark.parametrize(
    ("study", "max_seeds", "said"),
    [
        (comparison(seed=[0, 1, 2]), 2, "max_seeds 2 is less than the 3 seeds"),
        (comparison(seed=0), 5, "at least two seeds"),
        (dlbench.grid(seed=[0, 1], **SMALL), 5, "the design of this study is 'grid'"),
        (designs.union([comparison(), comparison(model="modernist", seed=[0, 1, 2])]), 5, "the same seeds"),
        (comparison(), 99_999, "at most 100,000"),
        (comparison(seed=[0, 2**32 - 1]), 3, "seed"),
    ],
)
def test_impossible_budgets_are_refused(study: dlbench.StudySpec, max_seeds: int, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        with_looks(study, max_seeds)


def test_a_budget_there_must_be() -> None:
    with pytest.raises(SpecError, match="max_seeds"):
        growing.run_until_separated(comparison())


# What a look may say.


def grown(accuracy: Any, num_seeds: int, schedule: tuple[int, ...], waiting: int = 0) -> StudyResult:
    """A comparison of two models with so many seeds, the last of which wait to be trained."""
    found = made_up_study(accuracy, "compare-archs", seed=range(num_seeds), **TWO)
    trials = tuple(
        TrialResult(trial.trial, TrialStatus.WAITING) if trial.seed >= num_seeds - waiting else trial
        for trial in found.trials
    )
    return replace(found, spec=found.spec.model_copy(update={"looks": schedule}), trials=trials)


def apart(spec: TrialSpec) -> float:
    """Two models whose difference has p = 0.02 at four seeds: above the level of a first look, below 5 %."""
    lead = (0.010, 0.014, 0.010, 0.004)[spec.seed % 4]
    return 0.9 + lead * (spec.model == "Stabilized")


def test_a_look_is_held_to_its_own_level() -> None:
    fixed = grown(apart, 4, ())
    (pair,) = report.study_record(fixed)["comparison"]["differences"]
    assert 0.0125 < pair["p_adjusted"] <= 0.05
    assert compare_models(fixed).winner == "Stabilized"
    assert "Stabilized is better than Baseline" in words(report.study_report(fixed).parts)
    look = grown(apart, 4, (4, 8))
    said = words(report.study_report(look).parts)
    assert compare_models(look).winner is None
    assert "is better than" not in said
    assert "1 look taken of 2 planned (after 4 and 8 seeds)" in said
    assert "Holm's correction, 1.25 %" in said
    assert "Seeds that would probably be enough: about" in said


def test_each_of_several_data_sets_needs_a_winner() -> None:
    def accuracy(spec: TrialSpec, second: float) -> float:
        lead = second if spec.dataset == "mnist5k" else 0.1
        noise = random.Random(f"{spec.model}{spec.seed}{spec.dataset}").gauss(0, 0.001)
        return 0.8 + lead * (spec.model == "Stabilized") + noise

    two = {"dataset": ["mnist", "mnist5k"], "seed": range(4), **TWO}
    for second, winners in ((0.0, ["mnist Stabilized"]), (-0.1, ["mnist Stabilized", "mnist5k Baseline"])):
        found = made_up_study(lambda spec, lead=second: accuracy(spec, lead), "compare-archs", **two)
        found = replace(found, spec=found.spec.model_copy(update={"looks": (4, 8)}))
        compared = compare_models(found)
        assert sorted(" ".join(name.split(", ")[::-1]) for name in compared.winners) == winners
        assert compared.is_separated == (len(winners) == 2)
        assert bool(compared.outlook) == (len(winners) == 1)
        record = report.study_record(found)["comparison"]
        assert (record["separated"], record["winner"]) == (len(winners) == 2, None)
        said = words(report.study_report(found).parts)
        assert ("; on other data sets, no model is." in said) == (len(winners) == 1)
    planned = report.schedule_in_words(found.spec)
    assert f"{100 * compared.ranking.alpha:.2f} %" in planned, (
        "the level of two comparisons, one on each data set"
    )
    assert "better than every other on each data set" in planned
    assert growing._finding(Look(1, (4, 8)), compared).startswith(
        "Look 1 of 2, 4 seeds: better than every other"
    )


def test_intervals_are_those_of_the_looks_level() -> None:
    look = grown(apart, 4, (4, 8))
    (table,) = tables(report.study_report(look).parts)
    row = next(row for row in table.rows if row[0] == "Stabilized")
    values = [trial.test_accuracy for trial in look.trials if trial.trial.spec.model == "Stabilized"]
    assert row[1].interval == mean_interval(values, 1 - alpha_of(Look(1, (4, 8))))
    assert "± their 98.75 % Student t intervals" in table.caption
    record = report.study_record(look)["comparison"]
    assert record["alpha"] == pytest.approx(0.0125)
    (pair,) = record["differences"]
    assert pair["low"] < 0 < pair["high"], "an interval holds 0 exactly where the test supports nothing"
    assert (record["separated"], record["winner"]) == (False, None)


def test_seeds_between_two_looks_are_not_looked_at() -> None:
    look = grown(apart, 8, (4, 8), waiting=1)
    before = grown(apart, 4, (4, 8))
    assert (
        tables(report.study_report(look).parts)[0].rows == tables(report.study_report(before).parts)[0].rows
    )
    assert "The 8 trials of the next look are left out until all have ended." in words(
        report.study_report(look).parts
    )
    assert report.study_record(look)["comparison"]["looks"] == {"planned": [4, 8], "taken": 1}


def test_nothing_is_judged_before_the_first_look() -> None:
    found = grown(lambda spec: 0.5 + 0.4 * (spec.model == "Baseline") + spec.seed / 1e3, 4, (4, 8), waiting=1)
    parts = report.study_report(found).parts
    assert "Nothing is compared before the first look, at 4 seeds" in words(parts)
    assert "place" not in [column.key for column in tables(parts)[0].columns]
    assert compare_models(found).winner is None
    assert report.study_record(found)["comparison"]["alpha"] is None


def test_the_budget_that_ended_is_said() -> None:
    found = grown(lambda spec: 0.9 + random.Random(f"{spec.model}{spec.seed}").gauss(0, 0.01), 8, (4, 8))
    said = words(report.study_report(found).parts)
    assert "2 looks taken of 2 planned" in said
    assert "All looks are taken: more seeds would be a new study" in said


def test_a_diverged_trial_ends_its_part_of_a_look() -> None:
    found = grown(lambda spec: None if spec.seed == 1 else 0.9, 4, (2, 4))
    assert last_look((2, 4), found.trials) == Look(2, (2, 4))
    assert last_look((2, 4), found.trials[:1]) is None


# Studies that really grow.


def facts(found: StudyResult) -> Any:
    """What two runs of one study must agree in."""
    return report.study_record(found)["comparison"], [
        (trial.id, trial.params_sha256, trial.test_accuracy) for trial in found
    ]


def test_models_that_differ_end_the_study_at_the_first_look(tmp_path: Path) -> None:
    study = designs.expand(
        {**SMALL, "model": "baseline", "learning_rate": [1e-9, 5e-3], "num_epochs": 8, "seed": range(4)},
        "comparison",
    )
    seen: list[object] = []
    found = dlbench.run_until_separated(study, 40, out=tmp_path / "s", workers=0, on_event=seen.append)
    assert len(found) == 8
    assert report.study_record(found)["comparison"]["looks"]["taken"] == 1
    notices = [event.text for event in seen if isinstance(event, messages.Notice)]
    assert "10 looks planned, after 4, 8, 12" in notices[0]
    assert notices[-1].endswith("Look 1 of 10, 4 seeds: lr 0.005 is better than every other model")
    planned = growing.plan_until_separated(growing.grown(study, 40), out=tmp_path / "s", workers=0)
    assert (len(planned.trials), planned.missing) == (8, [])
    assert any("It has ended." in str(part) for part in report.plan_report(planned))
    new = growing.plan_until_separated(growing.grown(study, 40), out=tmp_path / "t", workers=0)
    assert len(new.missing) == 80
    with pytest.raises(StoreError, match=r"looks after 4, 8, .* not a fixed number of seeds; .* another out"):
        dlbench.run(study, out=tmp_path / "s")
    with pytest.raises(StoreError, match="not looks after 4, 6 seeds"):
        dlbench.run_until_separated(study, 6, out=tmp_path / "s")


@pytest.mark.slow
def test_a_growing_study_that_is_killed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    whole = dlbench.run_until_separated(comparison(), 4, out=tmp_path / "whole", workers=1)
    assert [trial.seed for trial in whole] == [0, 1, 2, 3] * 2
    words = ["compare-archs", "--model", *TWO["model"], "--seeds=2", "--until-separated", "--max-seeds=4"]
    words += ["--schedule=constant", *(f"{FLAGS[name]}={value}" for name, value in SMALL.items())]
    process = subprocess.Popen(
        [sys.executable, "-m", "dlbench", *words, "--workers=1"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("Look 1 of 2"))
    next(line for line in process.stderr if "4 trials to train" in line)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (folder,) = (tmp_path / "runs").iterdir()
    killed = dlbench.open_study(folder)
    assert killed.spec.looks == (2, 4)
    assert report.study_record(killed)["comparison"]["looks"]["taken"] == 1
    again = subprocess.run(
        [sys.executable, "-m", "dlbench", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "2 looks taken of 2 planned" in again.stdout
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]
    seen: list[object] = []
    found = dlbench.run_until_separated(dlbench.open_study(folder).spec, out=folder, on_event=seen.append)
    assert facts(found) == facts(whole)
    assert not [event for event in seen if isinstance(event, messages.Started)]
