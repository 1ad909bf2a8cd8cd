"""Ablation and factorial designs: their trials in flags, YAML and Python, and the effects that they show."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from conftest import made_up

import dlbench
from dlbench import report
from dlbench.analysis.ablation import ablation, change_text
from dlbench.cli import main
from dlbench.errors import ConfigError, InputError, SpecError, UnknownNameError
from dlbench.spec import config
from dlbench.spec.layouts import lay_out
from dlbench.spec.parts import Arguments
from dlbench.stats import holm
from dlbench.studies import planning

SIZES: dict[str, Any] = {"train_size": 72, "val_size": 32, "num_epochs": 1}
#: Without the seed of each, what differs between two configurations.
CHANGES: list[Arguments] = [
    (),
    (("batch_norm", False),),
    (("dropout_rate", 0.0),),
    (("kernel_size", 5),),
    (("activation", "gelu"),),
]


def test_one_change_at_a_time_in_python() -> None:
    study = dlbench.ablate(
        "stabilized",
        without=["batch_norm", "dropout"],
        change={"kernel_size": 5, "activation": "gelu"},
        seeds=2,
        **SIZES,
    )
    assert study.kind == "ablate"
    assert [(spec.model_args, spec.seed) for spec in study.trials] == [
        (arguments, seed) for arguments in CHANGES for seed in range(2)
    ]
    assert {spec.model for spec in study.trials} == {"Stabilized"}
    same = dlbench.grid(model="Stabilized(kernel_size=5)", seeds=2, **SIZES)
    ids = {trial.id for trial in planning.plan(study).trials}
    assert {trial.id for trial in planning.plan(same).trials} < ids, "a trial is what it is in any design"


@pytest.mark.parametrize(
    ("study", "rows"),
    [
        (
            dlbench.ablate("stabilized", without=["batch_norm", "dropout"], seeds=2, **SIZES),
            [
                ("Stabilized", "model at its defaults or dropout_rate=0.0; seed 0, 1"),
                ("batch_norm=False", "seed 0, 1"),
            ],
        ),
        (
            dlbench.compare(model=["baseline", "stabilized"], folds=3, train_size=72, epochs=1),
            [("Baseline", "fold 0, 1, 2"), ("Stabilized", "fold 0, 1, 2")],
        ),
        (
            dlbench.grid(init_seed=[1, 0], split_seed=range(6), lr=[1e-3, 1e-2], **SIZES),
            [("Baseline", "split seed (6); lr 0.001, 0.01; init seed 0, 1")],
        ),
        (dlbench.grid(**SIZES), [("Baseline", None)]),
    ],
)
def test_a_plan_tells_its_programs_and_trials_apart(study: dlbench.StudySpec, rows: list[Any]) -> None:
    (table, *_) = report.plan_report(dlbench.plan(study))
    assert isinstance(table, report.Table)
    assert [row[:2] for row in table.rows] == rows


def test_flags_and_files_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "design: ablation\nbase: stabilized\nwithout: [batch_norm, dropout]\n"
        "change: {kernel_size: 5, activation: gelu}\nseeds: 2\ntrain_size: 72\nval_size: 32\nepochs: 1\n"
    )
    (tmp_path / "b.yaml").write_text(
        "kind: ablate\nmodel: stabilized\nwithout: [batch_norm, dropout]\n"
        "change: [kernel_size=5, activation=gelu]\nseeds: 2\ntrain_size: 72\nval_size: 32\nepochs: 1\n"
    )
    flags = "--base stabilized --without batch_norm,dropout --change kernel_size=5 activation=gelu --seeds 2"
    sizes = "--train-size 72 --val-size 32 --epochs 1"
    found = []
    for command in ("plan a.yaml", "plan b.yaml", f"ablate {flags} {sizes} --dry-run"):
        with pytest.raises(SystemExit) as caught:
            main([*command.split(), "--json"])
        assert caught.value.code == 0
        record = json.loads(capsys.readouterr().out)
        found.append((record["study"]["kind"], record["study"]["name"], [t["id"] for t in record["trials"]]))
    assert found[0] == found[1] == found[2]
    assert len(found[0][2]) == 10


def test_a_factorial_design_combines_levels_of_different_factors() -> None:
    study = dlbench.ablate(
        "baseline", change={"kernel_size": [5, 7], "activation": "gelu"}, factorial=True, **SIZES
    )
    assert [dict(spec.model_args) for spec in study.trials] == [
        {},
        {"activation": "gelu"},
        {"kernel_size": 5},
        {"kernel_size": 5, "activation": "gelu"},
        {"kernel_size": 7},
        {"kernel_size": 7, "activation": "gelu"},
    ]


def test_settings_outside_the_model_and_calls() -> None:
    study = dlbench.ablate(
        "resnet18(width=8)",
        without=["schedule", "weight_decay", "clip_norm", "transform", "optimizer.nesterov"],
        change=["model.width=4", "optimizer=adamw(b1=0.8)", "lr=0.01"],
        schedule="cosine(warmup=1)",
        weight_decay=0.1,
        clip_norm=1,
        transform="flip+crop(padding=2)",
        optimizer="sgd(nesterov=True)",
        train_size=72,
        val_size=32,
        num_epochs=3,
    )
    base, *rest = study.trials
    assert base.schedule == "cosine"
    assert rest[0].schedule == "constant"
    assert rest[0].schedule_args == ()
    assert (rest[1].weight_decay, rest[2].clip_norm, rest[3].transform) == (0, None, "standard")
    assert rest[4].optimizer_args == ()
    assert dict(rest[5].model_args) == {"width": 4}
    assert (rest[6].optimizer, rest[6].optimizer_args) == ("adamw", (("b1", 0.8),))
    assert rest[7].learning_rate == 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs something to change: without or change"),
        ({"without": "batch_norm"}, "batch_norm=False leads to a configuration that the design has already"),
        ({"change": "kernel_size=3"}, "kernel_size=3 leads"),
        ({"change": ["kernel_size=5", "kernel_size=5"]}, "kernel_size=5 leads"),
        ({"without": "activation"}, "'relu' cannot be turned off; say what it becomes, with change"),
        ({"change": "kernel_size"}, "change must be NAME=VALUE"),
        ({"change": {"kernel_size": "x"}}, "kernel_size of the model Baseline must be a whole number"),
        (
            {"change": {"kernel_size": 4}},
            "kernel_size of the model Baseline must be odd and at least 1; got 4",
        ),
        ({"change": {"activation": "tanh"}}, "must be relu, leaky_relu, elu or gelu; got 'tanh'"),
        ({"change": {"seed": 3}}, "seed cannot differ"),
        ({"change": {"folds": 3}}, "folds cannot differ"),
        ({"change": {"kernel_size": 5}, "lr": [0.1, 0.2]}, "learning_rate has several values"),
        ({"change": {"kernel_size": 5}, "base": ["baseline", "lenet-5"]}, "model has several values"),
        ({"change": {"lr": range(1, 100_001)}}, "at most 100,000"),
    ],
)
def test_what_is_no_ablation(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        dlbench.ablate(**options)


def test_unknown_settings_and_options_of_other_designs(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown setting 'batchnorm'. Did you mean 'batch_norm'"):
        dlbench.ablate(without="batchnorm")
    with pytest.raises(InputError, match="argument of the model Baseline 'width'"):
        dlbench.ablate(change={"model.width": 3})
    with pytest.raises(SpecError, match="without has no effect in a study of the design grid"):
        lay_out("grid", {}, {"without": ["x"]})
    for text, words in {
        "without: [x]": "without belongs to the design ablation; this is a grid",
        "base: baseline": "base is the model of an ablation",
        "design: ablation\nmodel: baseline\nbase: baseline": "beside model",
        "design: ablation\nwithout: !!python/name:x [a]": "not supported",
    }.items():
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(ConfigError, match=words):
            config.read(tmp_path / "s.yaml")


def accuracy(spec: dlbench.TrialSpec) -> float:
    """Kernels of 5 add 2 points, GELU 1, both 5; with noise that seeds share and a little of their own."""
    given = dict(spec.model_args)
    kernel, gelu = given.get("kernel_size") == 5, given.get("activation") == "gelu"
    own = ((17 * spec.seed + 5 * kernel + 3 * gelu) % 7 - 3) / 1000
    return 0.8 + 0.02 * kernel + 0.01 * gelu + 0.02 * (kernel and gelu) + spec.seed / 50 + own


def unfinished(spec: dlbench.StudySpec) -> dlbench.StudyResult:
    """A study in which the trials of the last of six seeds are not done, except for the base."""
    found = made_up(spec, accuracy)
    trials = (
        dlbench.TrialResult(trial.trial, dlbench.TrialStatus.WAITING)
        if trial.seed == 5 and trial.model_args
        else trial
        for trial in found.trials
    )
    return dataclasses.replace(found, trials=tuple(trials))


def values(found: dlbench.StudyResult, **given: Any) -> list[float]:
    chosen = [trial for trial in found.complete if dict(trial.model_args) == given and trial.seed < 5]
    return [trial.value("test/accuracy") for trial in chosen]


def test_effects_against_the_base_are_paired_and_corrected() -> None:
    spec = dlbench.ablate("baseline", change={"kernel_size": 5, "activation": "gelu"}, seeds=6, **SIZES)
    found = unfinished(spec)
    effects = ablation(found).effects
    base, kernel, gelu = values(found), values(found, kernel_size=5), values(found, activation="gelu")
    expected = [scipy.stats.ttest_rel(changed, base) for changed in (kernel, gelu)]
    assert [effect.p_adjusted for effect in effects] == pytest.approx(
        holm([each.pvalue for each in expected])
    )
    for effect, test in zip(effects, expected, strict=True):
        assert effect.comparison
        interval = test.confidence_interval()
        difference = effect.comparison.difference
        assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    text = report.to_markdown(report.study_report(found).parts)
    assert "Changes of Baseline by test accuracy" in text
    assert "| kernel_size=5 |" in text
    assert "Significant effects (2 effects, seed by seed, Holm's correction, 5 %)" in text
    record = report.study_record(found)["ablation"]
    assert [each["changes"] for each in record["configurations"]] == [
        {},
        {"model.kernel_size": 5},
        {"model.activation": "gelu"},
    ]


def test_main_effects_and_interactions_of_a_factorial_design() -> None:
    options = {"change": {"kernel_size": 5, "activation": "gelu"}, "factorial": True}
    found = unfinished(dlbench.ablate("baseline", **options, seeds=6, **SIZES))
    result = ablation(found)
    base, gelu = values(found), values(found, activation="gelu")
    kernel, both = values(found, kernel_size=5), values(found, kernel_size=5, activation="gelu")
    assert (result.is_factorial, result.num_replicates) == (True, 5)
    contrasts = {
        "kernel_size=5": [
            (k + b) / 2 - (o + g) / 2 for o, g, k, b in zip(base, gelu, kernel, both, strict=True)
        ],
        "activation=gelu": [
            (g + b) / 2 - (o + k) / 2 for o, g, k, b in zip(base, gelu, kernel, both, strict=True)
        ],
    }
    tests = {name: scipy.stats.ttest_1samp(contrast, 0) for name, contrast in contrasts.items()}
    assert {change_text(each.changes): each.p_adjusted for each in result.effects} == pytest.approx(
        dict(zip(tests, holm([test.pvalue for test in tests.values()]), strict=True))
    )
    (interaction,) = result.interactions
    contrast = [b - k - (g - o) for o, g, k, b in zip(base, gelu, kernel, both, strict=True)]
    assert interaction.comparison
    assert interaction.comparison.difference.estimate == pytest.approx(math.fsum(contrast) / 5)
    assert interaction.p_adjusted == pytest.approx(scipy.stats.ttest_1samp(contrast, 0).pvalue)
    text = report.to_markdown(report.study_report(found).parts)
    for words in (
        "**Main effects**",
        "**Interactions**",
        "activation=gelu with kernel_size=5",
        "5 replicates",
    ):
        assert words in text


@pytest.mark.parametrize("factorial", [False, True])
def test_trials_that_fail_count_as_failures_of_their_change(factorial: bool) -> None:
    def fails(spec: dlbench.TrialSpec) -> float | None:
        return (
            None if spec.seed in (1, 4) and dict(spec.model_args).get("kernel_size") == 5 else accuracy(spec)
        )

    changes = {"kernel_size": 5, "activation": "gelu"}
    found = made_up(dlbench.ablate("baseline", change=changes, factorial=factorial, seeds=6, **SIZES), fails)
    result = ablation(found)
    assert result.num_replicates == 6
    (kernel, gelu) = (effect.comparison for effect in result.effects)
    assert kernel
    assert gelu
    assert (kernel.n, kernel.test, gelu.test) == (6, "signed-rank", "signed-rank" if factorial else "t")
    assert kernel.difference.estimate < 0.02, "an accuracy of 0 in two of six seeds"
    text = report.to_markdown(report.study_report(found).parts)
    assert "2 of 6, 33 % [10, 70]" in text
    assert "seed by seed, by ranks where some trials of a configuration collapsed" in text


def test_one_seed_tests_nothing_and_folds_are_corrected() -> None:
    one = made_up(dlbench.ablate(change={"kernel_size": 5}, **SIZES), accuracy)
    (effect,) = ablation(one).effects
    assert (effect.comparison, effect.p_adjusted) == (None, 1.0)
    assert "cannot be tested with one seed" in report.to_markdown(report.study_report(one).parts)
    folded = made_up(
        dlbench.ablate(change={"kernel_size": 5}, folds=3, train_size=72, epochs=1),
        lambda spec: 0.8 + 0.1 * bool(spec.model_args) + spec.fold**2 / 100 * (1 + bool(spec.model_args)),
    )
    result = ablation(folded)
    assert result.metric == "val/accuracy"
    assert result.effects[0].comparison
    assert result.effects[0].comparison.test == "corrected t"
    assert "corrected resampled t test" in report.to_markdown(report.study_report(folded).parts)
