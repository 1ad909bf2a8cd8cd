"""Search: its space, its proposals, how it ends, and that it follows one course however often it is interrupted."""

import dataclasses
import importlib.metadata
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import made_up
from hypothesis import given
from hypothesis import strategies as st

import dlbench
from dlbench import report, stats
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.search import search_findings, searches
from dlbench.cli import main
from dlbench.errors import ConfigError, InputError, SpecError, UnknownNameError
from dlbench.execution import costs, messages
from dlbench.execution.plan import Plan
from dlbench.spec import config
from dlbench.spec.spaces import Distribution, SearchSpec
from dlbench.studies.proposals import Proposals
from dlbench.studies.searching import plan_search

pytest.importorskip("optuna", reason="searches need optuna")

SIZES: dict[str, Any] = {"train_size": 72, "val_size": 32, "num_epochs": 1}
SPACE = {"lr": "log(1e-4, 1e-1)", "batch_size": [8, 16, 32]}

NUMBERS = st.floats(1e-6, 1e6)
WHOLE = st.integers(1, 10**6)


@given(st.sampled_from(["uniform", "log"]), NUMBERS, NUMBERS, st.floats(0, 1))
def test_a_distribution_has_one_text_and_values_are_rounded_inside(
    kind: str, a: float, b: float, at: float
) -> None:
    low, high = sorted((a, b))
    if low == high:
        return
    found = Distribution.parse(f" {kind} ( {low!r},{high!r} )")
    assert Distribution.parse(str(found)) == found
    value = low + at * (high - low)
    assert low <= found.rounded(value) <= high
    assert found.rounded(value) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("int(8, 64)", (8, 64)),
        ("logint(8,64)", (8, 64)),
        ("choice(8, 16)", (8, 16)),
        ("choice(sgd(momentum=0.9), adam)", ("sgd(momentum=0.9)", "adam")),
        ("choice(true, false)", (True, False)),
    ],
)
def test_kinds_of_distributions(text: str, values: tuple[Any, ...]) -> None:
    found = Distribution.parse(text)
    assert found.values == values
    assert Distribution.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", "log", "log()", "log(1)", "log(2, 1)", "log(0, 1)", "log(1, 2) + 1", "log(1, 2, 3)"),
        *("uniform(a, b)", "uniform(1, inf)", "int(1.5, 3)", "logint(0, 8)", "normal(0, 1)"),
        *("choice()", "choice(1)", "choice(1, 1)"),
    ],
)
def test_what_is_no_distribution(text: str) -> None:
    with pytest.raises(SpecError, match="space must be"):
        Distribution.parse(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": {}}, "a search needs space"),
        ({"space": "lr"}, "NAME=DISTRIBUTION"),
        ({"space": {"lr": "log(1e-4, 1e-1)"}, "lr": 0.1}, "also given a value"),
        (
            {"space": {"lr": "log(1e-4, 1e-1)", "learning_rate": "log(1e-4, 1e-1)"}},
            "lr.*twice|learning_rate twice",
        ),
        ({"space": {"lr": "uniform(0, 1)"}}, "learning_rate must be greater than 0"),
        ({"space": {"kernel_size": "choice(3, x)"}}, "kernel_size .* must be a whole number"),
        ({"space": {"seed": "int(0, 5)"}}, "seed cannot differ"),
        ({"space": SPACE, "trials": 0}, "trials must be"),
        ({"space": SPACE, "trials": 5, "generation": 6}, "generation must be a whole number from 1 to 5"),
        ({"space": SPACE, "trials": 10**5}, "at most 100,000"),
        ({"space": SPACE, "confirm": -1}, "confirm must be"),
        ({"space": SPACE, "search_seed": 1.5}, "search_seed must be"),
        ({"space": SPACE, "reduction_factor": 3}, "needs as many seeds"),
        ({"space": SPACE, "hyperband": True, "resource": "epochs", "epochs": 2}, "needs as many epochs"),
        ({"space": SPACE, "resource": "epochs"}, "resource epochs has no effect without reduction_factor"),
        ({"space": SPACE, "hyperband": 3}, "hyperband must be true or false"),
        (
            {"space": {"epochs": "int(3, 9)"}, "reduction_factor": 3, "resource": "epochs"},
            "varies num_epochs, which grow",
        ),
        ({"space": {"optimizer": [1, 2]}}, "optimizer must be"),
        ({"space": SPACE, "epochs": [1, 2]}, "num_epochs has several values"),
    ],
)
def test_what_is_no_search(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        dlbench.search(**options)


def test_every_model_of_a_space_takes_its_arguments() -> None:
    models = {"model": ["baseline", "stabilized"], "model.kernel_size": [3, 5]}
    assert dlbench.search(models).search
    with pytest.raises(UnknownNameError, match="argument of the model LeNet-5 'kernel_size'"):
        dlbench.search({**models, "model": ["baseline", "lenet-5"]})
    with pytest.raises(UnknownNameError, match="unknown sampler 'grid'"):
        dlbench.search(SPACE, sampler="grid")
    with pytest.raises(SpecError, match="batch_size 65,536 is larger than the training set"):
        dlbench.plan(dlbench.search({"batch_size": "choice(8, 65536)"}, trials=1, **SIZES))
    with pytest.raises(SpecError, match=r"use dlbench\.run_search"):
        dlbench.run(dlbench.search(SPACE))
    with pytest.raises(SpecError, match="is no search"):
        dlbench.run_search(dlbench.grid())


def test_flags_files_and_python_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rest = "trials: 12\nsampler: quasi\nseeds: 2\ntrain_size: 72\nval_size: 32\nepochs: 1\n"
    (tmp_path / "a.yaml").write_text(
        f"design: search\nspace:\n  lr: log(1e-4, 1e-1)\n  batch_size: [8, 16, 32]\n{rest}"
    )
    flags = "--trials 12 --sampler quasi --seeds 2 --train-size 72 --val-size 32 --epochs 1 --dry-run"
    space = ["lr=log(1e-4,1e-1)", "batch_size=choice(8,16,32)"]
    found = []
    for command in (["plan", "a.yaml"], ["search", "--space", *space, *flags.split()]):
        with pytest.raises(SystemExit) as caught:
            main([*command, "--json"])
        assert caught.value.code == 0
        record = json.loads(capsys.readouterr().out)
        found.append((record["study"]["name"], sorted(trial["id"] for trial in record["trials"])))
    study = dlbench.search(SPACE, trials=12, sampler="quasi", seeds=2, **SIZES)
    planned = dlbench.plan(study)
    assert found[0] == found[1] == (planned.folder.name, sorted(trial.id for trial in planned.trials))
    assert len(planned.trials) == 24
    (tmp_path / "b.yaml").write_text("space: {}")
    with pytest.raises(ConfigError, match="space belongs to the design search; this is a grid"):
        config.read(tmp_path / "b.yaml")


def test_without_optuna_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(InputError, match=r"install it with: pip install 'dlbench\[search\]'"):
        dlbench.search(SPACE)


def spec_of(**options: Any) -> SearchSpec:
    found = dlbench.search(**{"space": SPACE, "seeds": 2, **SIZES, **options}).search
    assert found
    return found


def course(search: SearchSpec) -> list[list[dlbench.TrialSpec]]:
    """What a search proposes where low rates are good, by generation."""
    proposals, found = Proposals(search), []
    for size in search.generations:
        asked = [each[0] for each in proposals.ask(size)]
        found.append(asked)
        proposals.tell(
            [1 - spec.learning_rate for spec in asked], [str(spec.learning_rate) for spec in asked]
        )
    return found


@pytest.mark.parametrize("sampler", ["random", "quasi", "tpe"])
def test_a_search_proposes_the_same_again(sampler: str) -> None:
    search = spec_of(sampler=sampler, trials=24, generation=8)
    first = course(search)
    assert course(search) == first
    assert course(search.model_copy(update={"search_seed": 1})) != first
    rates = [spec.learning_rate for generation in first for spec in generation]
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert {spec.batch_size for generation in first for spec in generation} == {8, 16, 32}
    assert len(set(rates)) == 24


def test_samplers_do_what_they_are_for() -> None:
    """Quasi-random values fill each eighth of the range; TPE comes closer to what is good."""
    quasi = course(spec_of(sampler="quasi", trials=32))[0]
    eighths = [int((math.log10(spec.learning_rate) + 4) / 3 * 8) for spec in quasi]
    assert {eighths.count(each) for each in range(8)} == {4}
    learnt = course(spec_of(sampler="tpe", trials=40, generation=10))
    first, last = (sorted(spec.learning_rate for spec in each)[5] for each in (learnt[0], learnt[-1]))
    assert last < first / 2


def test_another_version_of_optuna_is_refused() -> None:
    with pytest.raises(InputError, match=r"began with Optuna 3\.0\.0.*pip install optuna==3\.0\.0"):
        Proposals(spec_of().model_copy(update={"optuna": "3.0.0"}))


def test_rungs_and_the_largest_number_of_trials() -> None:
    plain = spec_of(trials=25, generation=10)
    assert (plain.rungs, plain.generations) == ((2,), (10, 10, 5))
    assert plain.most_trials == 25 * 2 + 5
    halved = spec_of(trials=9, sampler="random", seeds=9, reduction_factor=3)
    assert halved.rungs == (1, 3, 9)
    assert halved.most_trials == 9 * 1 + 3 * 2 + 1 * 6 + 5
    assert spec_of().model_validate_json(plain.model_dump_json()) == plain


def test_epochs_as_rungs_and_brackets() -> None:
    epochs = {"resource": "epochs", "num_epochs": 9, "sampler": "random"}
    halved = spec_of(trials=9, reduction_factor=3, **epochs)
    assert halved.rungs == (1, 3, 9)
    assert halved.brackets("abcdefghi") == [((1, 3, 9), "abcdefghi")]
    assert halved.most_trials == (9 + 3 + 1) * 2 + 5
    assert halved.most_work == pytest.approx((9 * 1 + 3 * 2 + 1 * 6) * 2 / 9 + 5)
    pair = halved.base
    assert [(spec.seed, spec.num_epochs) for spec in halved.at_rung(pair, 3)] == [(0, 3), (1, 3)]
    assert tuple(map(halved.at_end, halved.at_rung(pair, 3))) == pair
    # Li et al., table 1, with factor 3 and at most 9: brackets of 9, 5 and 3 configurations.
    brackets = spec_of(trials=17, hyperband=True, **epochs).brackets(range(17))
    assert [(rungs, len(share)) for rungs, share in brackets] == [((1, 3, 9), 9), ((3, 9), 5), ((9,), 3)]
    assert [number for _, share in brackets for number in share] == list(range(17))
    assert len(spec_of(trials=1, hyperband=True, **epochs).brackets(range(1))) == 1


def test_what_stops_early_is_told_as_pruned() -> None:
    """TPE ranks it behind what went on, however good its value was."""
    search = spec_of(trials=24, generation=12, hyperband=True, resource="epochs", num_epochs=9)
    proposals = Proposals(search)
    asked = [each[0] for each in proposals.ask(12)]
    is_high = [spec.learning_rate > 3e-3 for spec in asked]
    assert 0 < sum(is_high) < 12
    proposals.tell(
        [0.5 if high else 0.9 for high in is_high],
        [spec.learning_rate.hex() for spec in asked],
        [9 if high else 1 for high in is_high],
    )
    following = [each[0].learning_rate > 3e-3 for each in proposals.ask(12)]
    assert sum(following) > 6


TUNED = {"model": ["baseline", "stabilized"], "tune": 4, "sampler": "quasi", "seeds": 3, **SIZES}


def test_flags_files_and_python_tune_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "design: comparison\nmodel: [Baseline, Stabilized]\ntune: 4\nsampler: quasi\nspace: {lr: 'log(1e-4, 1e-1)'}\n"
        "seeds: 3\ntrain_size: 72\nval_size: 32\nepochs: 1\nclaims:\n"
        "- {says: Norms help, better: {model: Stabilized}, than: {model: Baseline}}\n"
    )
    sizes = "--train-size 72 --val-size 32 --epochs 1 --schedule constant --dry-run"
    flags = f"--model baseline stabilized --tune 4 --sampler quasi --seeds 3 {sizes}"
    found = []
    for command in (["plan", "a.yaml"], ["compare-archs", *flags.split()]):
        with pytest.raises(SystemExit) as caught:
            main([*command, "--json"])
        assert caught.value.code == 0
        record = json.loads(capsys.readouterr().out)
        found.append((record["study"]["name"], sorted(trial["id"] for trial in record["trials"])))
    planned = dlbench.plan(dlbench.compare(**TUNED))
    assert found[0] == found[1] == (planned.folder.name, sorted(trial.id for trial in planned.trials))
    assert len(planned.trials) == 2 * 4
    assert {trial.spec.seed for trial in planned.trials} == {3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tune": None, "space": SPACE}, "space has no effect without tune"),
        ({"tune": None, "hyperband": True}, "hyperband has no effect without tune"),
        ({"tune": 0}, "tune must be a whole number from 1"),
        ({"tune_seeds": 0}, "tune_seeds must be"),
        ({"lr": 0.1}, "varies lr, which is also given a value"),
        ({"batch_size": [8, 16]}, "batch_size has several values"),
        ({"model": "baseline"}, "two models or more"),
    ],
)
def test_what_cannot_be_tuned(options: dict[str, Any], words: str) -> None:
    given = {name: value for name, value in {**TUNED, **options}.items() if value is not None}
    if options.get("tune", 1) is None:
        given.pop("sampler")
    with pytest.raises(InputError, match=words):
        dlbench.compare(**given)


def test_looks_at_tuned_models_are_refused() -> None:
    with pytest.raises(SpecError, match="max_seeds and tune cannot be combined"):
        dlbench.run_until_separated(dlbench.compare(**TUNED), 9)


def tuned(accuracy: Any) -> dlbench.StudyResult:
    """A comparison of two tuned models with made-up accuracies; low rates are the best."""
    study = dlbench.compare(**{**TUNED, "seeds": 6})
    assert study.search
    trials: list[dlbench.TrialSpec] = []
    for part in study.search.parts:
        asked = [each[0] for each in Proposals(part).ask(4)]
        best = min(asked, key=lambda spec: spec.learning_rate)
        new = [best.model_copy(update={"seed": seed}) for seed in study.search.new_seeds]
        trials += [*asked, *new]
    return made_up(study.model_copy(update={"trials": tuple(trials)}), accuracy)


def test_tuned_models_are_compared_on_seeds_that_did_not_choose_them() -> None:
    def accuracy(spec: dlbench.TrialSpec) -> float:
        gain = 0.02 if spec.model == "Stabilized" and spec.seed < 6 else 0.0
        return 0.9 - spec.learning_rate + gain + 0.001 * (spec.seed % 3) + 0.05 * (spec.seed == 6)

    found = tuned(accuracy)
    comparison = compare_models(found)
    assert comparison.winner == "Stabilized"
    assert {trial.seed for trial in comparison.trials} == {0, 1, 2, 3, 4, 5}
    searched = searches(found)
    assert [each.name for each in searched] == ["Baseline", "Stabilized"]
    assert [len(each.candidates) for each in searched] == [4, 4]
    for each in searched:
        assert each.winner
        assert each.confirmation
        assert len(each.confirmation.trials) == 6
        rates = [one.configuration.spec.learning_rate for one in each.candidates]
        assert each.winner.configuration.spec.learning_rate == min(rates)
    text = report.to_markdown(report.study_report(found).parts)
    assert "Stabilized is significantly better than every other model" in text
    assert "Tuned settings" in text
    assert "Each model has the same budget." in text
    record = report.study_record(found)
    assert [each["model"] for each in record["tuning"]] == ["Baseline", "Stabilized"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_expected_best_is_the_mean_over_all_draws(values: list[int]) -> None:
    found = stats.expected_best(values, 3)
    lowest = stats.expected_best(values, 3, higher_is_better=False)
    for budget in (1, 2, 3):
        draws = list(itertools.product(values, repeat=budget))
        assert found[budget - 1] == pytest.approx(sum(map(max, draws)) / len(draws))
        assert lowest[budget - 1] == pytest.approx(sum(map(min, draws)) / len(draws))
    with pytest.raises(InputError, match="at least one"):
        stats.expected_best(values, 0)


def ended(accuracy: Any, confirmed: bool = True, **options: Any) -> dlbench.StudyResult:
    """A search by quasi-random values in one generation, with made-up accuracies."""
    fields = {"trials": 8, "sampler": "quasi", "seeds": 3, **SIZES, **options}
    study = dlbench.search({"lr": "log(1e-4, 1e-1)"}, **fields)
    assert study.search
    asked = Proposals(study.search).ask(8)
    best = [spec for spec in min(asked, key=lambda each: each[0].learning_rate) if spec.seed == 0]
    new = [spec.model_copy(update={"seed": seed}) for seed in study.search.new_seeds for spec in best]
    trials = (*(spec for each in asked for spec in each), *(new if confirmed else ()))
    return made_up(study.model_copy(update={"trials": trials}), accuracy)


def test_folds_have_no_interval_of_independent_values() -> None:
    found = ended(lambda spec: 0.9 - spec.learning_rate + spec.fold / 100, folds=3, val_size=None)
    result = search_findings(found)
    assert result.confirmation
    assert result.selection_bias
    assert len(result.confirmation.complete) == 5 * 3
    assert result.selection_bias.difference.estimate == pytest.approx(0)
    assert math.isnan(result.selection_bias.difference.low)
    text = report.to_markdown(report.study_report(found).parts)
    assert "Welch" not in text
    assert "Means over folds and seeds" in text
    few = ended(lambda spec: 0.9 - spec.learning_rate + spec.fold / 100, folds=2, val_size=None, seeds=1)
    assert "The value of each fold and seed." in report.to_markdown(report.study_report(few).parts)


def test_the_winner_is_confirmed_on_new_seeds() -> None:
    def accuracy(spec: dlbench.TrialSpec) -> float:
        return 0.9 - spec.learning_rate + spec.seed / 1000 - 0.05 * (spec.seed > 2)

    found = ended(accuracy)
    result = search_findings(found)
    assert result.winner
    assert result.confirmation
    assert result.selection_bias
    rates = [each.configuration.spec.learning_rate for each in result.candidates]
    assert len(rates) == 8
    assert result.winner.configuration.spec.learning_rate == min(rates)
    assert len(result.winner.configuration.trials) == 3
    assert sorted(trial.seed for trial in result.confirmation.trials) == [3, 4, 5, 6, 7]
    before = [0.9 - min(rates) + seed / 1000 for seed in range(3)]
    after = [0.85 - min(rates) + seed / 1000 for seed in range(3, 8)]
    assert result.selection_bias.difference.estimate == pytest.approx(sum(before) / 3 - sum(after) / 5)
    assert result.expected == stats.expected_best([each.value for each in result.candidates])
    assert list(result.best_so_far) == sorted(result.best_so_far)
    text = report.to_markdown(report.study_report(found).parts)
    for words in (
        "The best 8 of 8 configurations by validation accuracy",
        "On 5 new seeds (5 trials): validation accuracy",
        "Selection bias: +4.60 [",
        "Expected best by budget",
        "quasi-random search (Sobol) (Optuna ",
    ):
        assert words in text
    record = report.study_record(found)["search"]
    assert record["space"] == {"learning_rate": "log(0.0001, 0.1)"}
    assert json.dumps(record["winner"]) == str(result.winner.number)
    (plot,) = report.plots_report(found)
    assert isinstance(plot, report.Plot)
    assert (len(plot.curves[0].values), plot.unit) == (8, "configuration")


def test_trials_without_a_result_count_as_the_worst() -> None:
    """The lowest rate is the best, but for a seed that diverges."""
    found = ended(
        lambda spec: None if (spec.seed, spec.learning_rate < 3e-4) == (1, True) else 1 - spec.learning_rate
    )
    result = search_findings(found)
    assert result.winner
    assert result.winner.configuration.spec.learning_rate > 3e-4
    assert min(each.value for each in result.candidates) < 2 / 3
    nothing = ended(lambda spec: None)
    assert search_findings(nothing).winner is None
    assert "the search has no winner" in report.to_markdown(report.study_report(nothing).parts)
    before = ended(lambda spec: 0.5, confirmed=False)
    assert "has not confirmed it" in report.to_markdown(report.study_report(before).parts)


def test_new_seeds_that_fail_count_against_the_winner() -> None:
    found = ended(lambda spec: None if spec.seed in (4, 6) else 0.9 - spec.learning_rate)
    result = search_findings(found)
    assert result.selection_bias
    assert result.selection_bias.test == "rank-sum"
    assert result.selection_bias.n == 8
    text = report.to_markdown(report.study_report(found).parts)
    assert "On 5 new seeds (3 trials): " in text
    assert "2 of 5 trials diverged or collapsed. Selection bias: +" in text
    lost = report.to_markdown(
        report.study_report(ended(lambda spec: None if spec.seed > 2 else 0.9 - spec.learning_rate)).parts
    )
    assert "5 of 5 trials diverged or collapsed." in lost
    assert "has not confirmed it" not in lost


def test_the_history_is_drawn() -> None:
    from dlbench.report.figures.canvas import View
    from dlbench.report.figures.search import history

    found = ended(lambda spec: 1 - spec.learning_rate)
    (drawing,) = history(View(found))
    assert len(drawing.canvas.axes[0].lines[0].get_ydata()) == 8
    assert "8 configurations" in drawing.about.alt
    grid = dlbench.StudySpec(trials=found.spec.trials)
    assert history(View(dlbench.StudyResult(grid, found.trials, found.folder))) == []


RUN = {
    "space": {"lr": "log(1e-4, 1e-1)", "dropout": "uniform(0.1, 0.5)"},
    "trials": 6,
    "generation": 2,
    "seeds": 2,
    "confirm": 2,
    **SIZES,
    "batch_size": 16,
}


def digests(folder: Path) -> list[tuple[str, str | None]]:
    return [(trial.id, trial.params_sha256) for trial in dlbench.open_study(folder).trials]


@pytest.mark.slow
def test_a_search_follows_one_course_however_it_is_interrupted(tmp_path: Path) -> None:
    study = dlbench.search(**RUN)
    whole = dlbench.run_search(study, out=tmp_path / "whole", workers=2)
    assert len(whole) <= 6 * 2 + 2
    assert search_findings(whole).confirmation
    expected = digests(tmp_path / "whole")
    for stop in (1, 6):
        ends = itertools.count(1)

        def interrupt(event: object, ends: Any = ends, stop: int = stop) -> None:
            if isinstance(event, messages.Finished) and next(ends) == stop:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            dlbench.run_search(study, out=tmp_path / "cut", workers=1, on_event=interrupt)
        opened = dlbench.open_study(tmp_path / "cut").spec
        assert opened.search == study.search
        dlbench.run_search(opened, out=tmp_path / "cut", workers=2)
        assert digests(tmp_path / "cut") == expected
        assert len(dlbench.run_search(study, out=tmp_path / "cut")) == len(expected), "all is done already"
        shutil.rmtree(tmp_path / "cut")


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on(tmp_path: Path) -> None:
    space = ["--space", "lr=log(1e-4,1e-1)", "dropout=uniform(0.1,0.5)"]
    sizes = "--train-size 72 --val-size 32 --epochs 1"
    rest = f"--trials 6 --generation 2 --seeds 2 --confirm 2 {sizes} --workers 1 --quiet"
    words = ["search", *space, *rest.split(" ")]
    command = [sys.executable, "-m", "dlbench", *words]
    subprocess.run([*command, "--out", "whole"], cwd=tmp_path, check=True)
    for seconds in (6, 12):
        process = subprocess.Popen([*command, "--out", "cut"], cwd=tmp_path)
        time.sleep(seconds)
        process.kill()
        process.wait()
    subprocess.run([sys.executable, "-m", "dlbench", "run", "cut", "--quiet"], cwd=tmp_path, check=True)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


@pytest.mark.slow
def test_halving_trains_fewer_seeds_of_most_configurations(tmp_path: Path) -> None:
    study = dlbench.search(**{**RUN, "seeds": 4, "generation": 6, "reduction_factor": 2, "sampler": "random"})
    found = dlbench.run_search(study, out=tmp_path / "halved", workers=2)
    result = search_findings(found)
    lengths = sorted(len(each.configuration.trials) for each in result.candidates)
    assert lengths == [1, 1, 1, 2, 2, 4]
    assert result.winner
    assert len(result.winner.configuration.trials) == 4
    assert "5 configurations stopped by halving" in report.to_markdown(report.study_report(found).parts)


def test_the_plan_of_a_search_says_what_is_done_and_what_is_left() -> None:
    study = dlbench.search({"lr": "log(1e-4, 1e-1)"}, trials=30, confirm=2, **SIZES)
    planned = plan_search(study)
    assert planned == dlbench.plan(study), "nothing is done"
    assert len(planned.trials) == 10
    said = [
        "Generation 1 of 3; the others",
        "1 generation of 3 is done; generation 2 is next",
        "2 generations of 3 are",
    ]
    said += [
        "All 3 generations are done; the winner is confirmed on 2 new seeds next.",
        "the search has ended.",
    ]
    for generation, words in enumerate(said, start=1):
        (found,) = [
            part
            for part in report.plan_report(dataclasses.replace(planned, generation=generation))
            if isinstance(part, str) and words in part
        ]
        assert ("at most 32 trials" in found) == (generation < 5)
    assert planned.estimate_s == pytest.approx(3.2 * costs.estimate_s(planned.missing, planned.workers))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_workers_outlive_a_generation(tmp_path: Path, workers: int) -> None:
    """All configurations share a program, which is compiled once; times add up over generations."""
    seen: list[object] = []
    plans: list[Plan] = []
    study = dlbench.search({"lr": "log(1e-4, 1e-1)"}, trials=6, generation=2, confirm=2, **SIZES)

    def on_event(event: object) -> None:
        seen.append(event)
        if isinstance(event, messages.Notice) and event.text.startswith("Generation"):
            plans.append(plan_search(study, out=tmp_path / "s"))

    found = dlbench.run_search(study, out=tmp_path / "s", workers=workers, on_event=on_event)
    plans.append(plan_search(dlbench.open_study(tmp_path / "s").spec, out=tmp_path / "s"))
    assert [(p.generation, len(p.done), len(p.missing)) for p in plans] == [
        *((2, 2, 2), (3, 4, 2), (4, 6, 2), (5, 8, 0)),
    ]
    assert len([each for each in seen if isinstance(each, messages.Finished)]) == 8
    assert len([each for each in seen if isinstance(each, messages.Compiling)]) == 1
    assert sum(found.times.values()) <= found.wall_time_s
    assert found.times["train"] >= sum(trial.train_time_s or 0 for trial in found.trials) * 0.99


@pytest.mark.slow
def test_epochs_as_rungs_continue_with_the_same_bits(tmp_path: Path) -> None:
    options = {**RUN, "trials": 6, "generation": 6, "sampler": "random", "num_epochs": 4}
    study = dlbench.search(**options, reduction_factor=2, resource="epochs")
    whole = dlbench.run_search(study, out=tmp_path / "whole", workers=2)
    lengths = sorted(trial.num_epochs for trial in whole.trials)
    assert lengths == sorted([1] * 12 + [2] * 6 + [4] * 2 + [4] * 2)
    result = search_findings(whole)
    assert sorted(each.configuration.spec.num_epochs for each in result.candidates) == [1, 1, 1, 2, 2, 4]
    assert result.winner
    assert not list((tmp_path / "whole").glob("trials/*/kept")), "states are removed when nothing needs them"
    alone = dlbench.StudySpec(trials=[t.trial.spec for t in result.winner.configuration.trials])
    again = dlbench.run(alone, out=tmp_path / "alone", workers=2, reuse=False)
    assert [t.params_sha256 for t in again] == [t.params_sha256 for t in result.winner.configuration.trials]
    assert [t.history for t in again] == [t.history for t in result.winner.configuration.trials]
    for stop in (5, 14, 19):
        ends = itertools.count(1)

        def interrupt(event: object, ends: Any = ends, stop: int = stop) -> None:
            if isinstance(event, messages.Finished) and next(ends) == stop:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            dlbench.run_search(study, out=tmp_path / "cut", workers=1, on_event=interrupt)
        dlbench.run_search(study, out=tmp_path / "cut", workers=2)
        assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
        shutil.rmtree(tmp_path / "cut")


@pytest.mark.slow
def test_models_are_tuned_and_then_compared(tmp_path: Path) -> None:
    hyperband = {"sampler": "tpe", "generation": 3, "hyperband": True, "resource": "epochs", "num_epochs": 3}
    study = dlbench.compare(**{**TUNED, **hyperband, "tune": 6})
    found = dlbench.run_search(study, out=tmp_path / "tuned", workers=2)
    opened = dlbench.open_study(tmp_path / "tuned")
    assert opened.spec.search == study.search
    assert len(compare_models(opened).trials) == 2 * 3
    assert [len(each.confirmation.trials) for each in searches(found) if each.confirmation] == [3, 3]
    assert digests(tmp_path / "tuned") == [
        (trial.id, trial.params_sha256) for trial in dlbench.run_search(opened.spec, out=tmp_path / "tuned")
    ]


@pytest.mark.parametrize("wrong", [3, None, {"low": 1}])
def test_a_distribution_that_is_neither_text_nor_a_list_is_refused(wrong: Any) -> None:
    with pytest.raises(SpecError, match=r"for lr a distribution, such as log\(1e-4,1e-1\), or a list"):
        dlbench.search({"lr": wrong}, trials=2)
