"""Claims: what a file may say beforehand, and what made-up trials say of it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_report import result, study, words

from dlbench import report, stats
from dlbench.analysis import claims
from dlbench.analysis.claims import Verdict
from dlbench.analysis.protocols import compare_protocols, variation_by_source
from dlbench.errors import ConfigError, UnknownNameError
from dlbench.records import OUTCOME_FIELDS, Outcome, TrialStatus
from dlbench.report.protocols import protocol_report, variation_report
from dlbench.report.verdicts import ClaimsReport, overview
from dlbench.spec import config
from dlbench.spec.claims import Claim, Selection, check
from dlbench.spec.metrics import KNOWN_METRICS, metric, metric_key
from dlbench.spec.trial import TrialSpec
from dlbench.storage.results import TrialResult
from dlbench.studies.result import StudyResult


def side(metric: str = "test_accuracy", **fields: Any) -> Selection:
    return Selection(tuple((name, (value,)) for name, value in fields.items()), metric)


def better(first: str, second: str, **options: Any) -> Claim:
    return Claim(f"{first} is better", side(model=first), side(model=second), **options)


def noisy(means: dict[str, float], std: float) -> Any:
    return lambda spec: means[spec.model] + random.Random(f"{spec.model} {spec.seed}").gauss(0, std)


MODELS = {"Baseline": 0.95, "Stabilized": 0.98, "Modernist": 0.9505}
FOUND = study(noisy(MODELS, 0.002), model=list(MODELS), seed=range(8))


def test_verdicts_in_each_direction() -> None:
    judged = claims.judge(
        [
            better("Stabilized", "Baseline"),
            better("Baseline", "Stabilized"),
            better("Modernist", "Baseline"),
            better("SimpleCNN", "Baseline"),
        ],
        FOUND.trials,
    )
    assert [each.verdict for each in judged] == [
        Verdict.SUPPORTED,
        Verdict.REVERSED,
        Verdict.UNSUPPORTED,
        Verdict.UNMEASURED,
    ]
    assert judged[0].comparison is not None
    assert judged[1].comparison is not None
    assert judged[0].comparison.difference.estimate == pytest.approx(0.03, abs=0.004)
    assert judged[1].comparison.difference.low == -judged[0].comparison.difference.high
    assert judged[3].comparison is None
    assert judged[0].trial_ids[0][0] == next(t.id for t in FOUND.trials if t.model == "Stabilized")


def test_pairs_are_of_one_seed_and_split_and_the_test_is_the_paired_one() -> None:
    (judged,) = claims.judge([better("Modernist", "Baseline")], FOUND.trials)
    values = {
        model: [t.test_accuracy for t in FOUND.trials if t.model == model]
        for model in ("Modernist", "Baseline")
    }
    assert judged.comparison == stats.paired_comparison(values["Modernist"], values["Baseline"])
    shuffled = random.Random(0).sample(FOUND.trials, len(FOUND.trials))
    (again,) = claims.judge([better("Modernist", "Baseline")], shuffled)
    assert again.comparison == judged.comparison


def test_p_is_corrected_for_the_number_of_claims() -> None:
    found = study(
        noisy({"Baseline": 0.95, "Modernist": 0.9525}, 0.002), model=["baseline", "modernist"], seed=range(8)
    )
    (alone,) = claims.judge([better("Modernist", "Baseline")], found.trials)
    assert alone.verdict is Verdict.SUPPORTED
    many = claims.judge(
        [better("Modernist", "Baseline")] + [better("SimpleCNN", "Baseline")] * 20, found.trials
    )
    assert many[0].p_adjusted == pytest.approx(21 * alone.p_adjusted)
    assert many[0].verdict is Verdict.UNSUPPORTED


def with_metrics(found: StudyResult, metrics: Any) -> tuple[TrialResult, ...]:
    return tuple(
        TrialResult(t.trial, t.status, Outcome.from_record({**t.outcome, **metrics(t.trial.spec)}), t.history)
        for t in found.trials
    )


def test_less_is_better_of_losses_and_times() -> None:
    trials = with_metrics(FOUND, lambda spec: {"test_loss": 1 - MODELS[spec.model] + spec.seed / 1e4})
    claim = Claim("s", side("test_loss", model="Stabilized"), side("test_loss", model="Baseline"))
    (judged,) = claims.judge([claim], trials)
    assert judged.verdict is Verdict.SUPPORTED
    assert judged.comparison is not None
    assert judged.comparison.difference.estimate == pytest.approx(0.03)


def test_each_side_may_have_its_own_metric() -> None:
    trials = with_metrics(FOUND, lambda spec: {"test_accuracy_augmented": 0.5 + spec.seed / 100})
    model = side(model="Baseline")
    claim = Claim("clean is easier", model, Selection(model.fields, "test_accuracy_augmented"))
    (judged,) = claims.judge([claim], trials)
    assert judged.verdict is Verdict.SUPPORTED


def test_several_configurations_are_averaged_seed_by_seed_and_gaps_left_out() -> None:
    def accuracy(spec: TrialSpec) -> float | None:
        if (spec.learning_rate, spec.seed) == (0.2, 2):
            return None
        return 0.5 + spec.learning_rate + spec.seed / 100

    found = study(accuracy, learning_rate=[0.1, 0.2], seed=[0, 1, 2])
    values = claims.side_values(side(model="baseline"), found.trials)
    assert values == {(0, 0, 0): pytest.approx(0.64), (1, 0, 0): pytest.approx(0.65)}, (
        "seed 2 has one of the two"
    )


def test_variation_is_judged_by_spread() -> None:
    def accuracy(spec: TrialSpec) -> float:
        return 0.9 + random.Random(f"{spec.vary} {spec.seed}").gauss(0, 0.02 if spec.vary == "all" else 0.002)

    found = study(accuracy, vary=["all", "init"], seed=range(20))
    wide, narrow = side(vary="all"), side(vary="init")
    judged = claims.judge(
        [Claim("w", wide, narrow, spread=True), Claim("n", narrow, wide, spread=True)], found.trials
    )
    assert [each.verdict for each in judged] == [Verdict.SUPPORTED, Verdict.REVERSED]
    assert judged[0].counts == (20, 20)
    variation = variation_by_source(found.trials)
    widths = {each.configuration.spec.vary: each.std for each in variation}
    assert widths["all"] is not None
    assert widths["init"] is not None
    assert widths["all"].estimate == pytest.approx(0.02, rel=0.5)
    assert widths["all"].low > widths["init"].high
    (table,) = variation_report(variation, found.trials)
    assert isinstance(table, report.Table)
    assert [row[0] for row in table.texts()] == ["all", "init"]
    assert variation_by_source(FOUND.trials) == ()
    assert variation_report((), FOUND.trials) == []
    two = [trial for trial in found.trials if trial.seed < 2]
    assert [each.std for each in variation_by_source(two)] == [None, None], "two seeds have no interval"


def test_every_metric_is_recorded_of_a_trial_and_has_both_names() -> None:
    assert KNOWN_METRICS.keys() <= {*OUTCOME_FIELDS}
    assert metric_key("test/accuracy") == metric_key("test_accuracy") == "test_accuracy"
    assert metric("val/loss").lower_is_better
    with pytest.raises(UnknownNameError, match="test_accuracy"):
        metric("test_acuracy")


def claims_report(made: list[Claim], trials: Sequence[TrialResult]) -> ClaimsReport:
    return ClaimsReport(tuple(claims.judge(made, trials)), claims.ALPHA)


def test_the_table_quotes_the_claim_and_names_trials() -> None:
    found = claims_report(
        [better("Stabilized", "Baseline", points=2.5), better("Modernist", "Baseline")], FOUND.trials
    )
    first, second = found.table.texts()
    assert first[:3] == ["“Stabilized is better”", "supported", "+2.50 points"]
    assert first[3].startswith("+3.")
    assert first[4] == "8"
    assert FOUND.trials[0].id in first[-1]
    assert second[1] == "not supported"
    assert words(found.parts) == "Of 2 claims, 1 is supported and 1 is not supported."


def test_the_verdicts_of_several_studies_stand_together() -> None:
    first, second = (
        claims_report(made, FOUND.trials)
        for made in ([better("Stabilized", "Baseline")], [better("Baseline", "Stabilized")])
    )
    said, table = overview([("First", first), ("Second", second), ("Third", None)])
    assert said == "Of 2 claims, 1 is supported and 1 is reversed."
    assert isinstance(table, report.Table)
    assert [row[:2] for row in table.texts()] == [
        ["First", "“Stabilized is better”"],
        ["Second", "“Baseline is better”"],
    ]
    assert [row[-1] for row in table.rows] == [each.table.rows[0][6] for each in (first, second)]
    assert overview([("First", first), ("Third", None)]) == []


def test_what_a_study_ran_on_is_said() -> None:
    recorded = {
        "cpu": {"model name": "A CPU", "model": "2"},
        "packages": {"jax": "0.10.2", "clu": "0"},
        "python": "3.11",
        "cores": 2,
        "workers": 2,
        "device": {"devices": ["cpu"]},
        "git": {"commit": "0123456789abcdef"},
        "times": {"train": 100.0, "wait": 20.0},
    }
    assert report.origin(recorded) == (
        "Trained on 2 cores of A CPU (model 2), device cpu, with 2 workers, in 1 min 0 s; Python 3.11, jax 0.10.2; "
        "commit 0123456789ab."
    )
    assert report.origin({}) == ""


def test_one_seed_measures_no_difference() -> None:
    found = study(lambda spec: MODELS[spec.model], model=["baseline", "stabilized"])
    (judged,) = claims.judge([better("Stabilized", "Baseline")], found.trials)
    assert judged.verdict is not Verdict.SUPPORTED
    (row,) = claims_report([better("Stabilized", "Baseline")], found.trials).table.texts()
    assert "nan" not in " ".join(row)


def test_two_protocols_side_by_side() -> None:
    found = study(lambda spec: 0.9 + spec.seed / 100, learning_rate=[0.1, 0.2], seed=[0, 1, 2])
    table, sentence = protocol_report(compare_protocols(found.trials), found.trials)
    assert isinstance(table, report.Table)
    assert table.texts()[0] == ["0.1", "91.00 ± 2.48", "90.00 ± 2.48", "+1.00 [+1.00, +1.00]", "3"]
    assert (
        "validation accuracy less test accuracy is +1.00 [+1.00, +1.00] points on average (3 seeds)"
        in str(sentence)
    )
    assert protocol_report(compare_protocols(study(lambda spec: None).trials), ()) == []
    single = study(lambda spec: 0.9).trials
    (lone,) = protocol_report(compare_protocols(single), single)
    assert lone.texts() == [["Baseline", "90.00", "89.00", "+1.00", "1"]]  # type: ignore[union-attr]


# What a file may say.

CLAIM = "  - says: a\n    better: {model: Stabilized}\n    than: {model: Baseline}\n"


def read(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return config.read(path)


def test_claims_are_read(tmp_path: Path) -> None:
    text = (
        "lr: [1e-3, 1e-2]\n"
        "claims:\n"
        "  - says: Low is\n"
        "      better\n"
        "    better: {lr: 1e-3}\n"
        "    than: {lr: [0.01, 1], figure: best_val_accuracy}\n"
        "    points: 1.5\n"
        "  - {says: b, varies: {vary: init}, than: {vary: order}, metric: val/accuracy}\n"
    )
    found = read(tmp_path, text)
    first, second = found.claims
    assert (first.says, first.points, first.spread) == ("Low is better", 1.5, False)
    assert first.first.fields == (("learning_rate", (0.001,)),)
    assert first.second.fields == (("learning_rate", (0.01, 1.0)),)
    assert (first.first.metric, first.second.metric) == ("", "best_val_accuracy")
    assert second.spread
    assert second.second.metric == "best_val_accuracy"
    assert found.text == text
    assert config.read_claims(text, Path("x.yaml"))[1][0].says == first.says
    assert "vary" not in found.places, "what a claim names is not what is trained"


def test_reading_claims_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = f"model: hostile:Net\nclaims:\n{CLAIM.replace('Baseline', 'hostile:Net')}"
    assert len(config.read_claims(text, Path("x.yaml"))[1]) == 1


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("claims: {says: a}\n", 1, ["list"]),
        ("claims: []\n", 1, ["list"]),
        ("claims:\n  - says: a\n    than: {lr: 1}\n", 2, ["either better or varies"]),
        (
            "claims:\n  - {says: a, better: {lr: 1}, varies: {lr: 1}, than: {lr: 2}}\n",
            2,
            ["either better or varies"],
        ),
        ("claims:\n  - {better: {lr: 1}, than: {lr: 2}}\n", 2, ["says"]),
        ("claims:\n  - {says: '', better: {lr: 1}, than: {lr: 2}}\n", 2, ["says must be a sentence"]),
        ("claims:\n  - says: a\n    bettr: {lr: 1}\n", 3, ["unknown key 'bettr'", "'better'"]),
        ("claims:\n  - says: a\n    better: {lrr: 1}\n    than: {lr: 1}\n", 3, ["unknown key 'lrr'"]),
        (
            "claims:\n  - says: a\n    better: {lr: 1}\n    than: {lr: fast}\n",
            4,
            ["learning_rate", "number", "'fast'"],
        ),
        ("claims:\n  - says: a\n    better: {lr: 1}\n    than: {lr: []}\n", 4, ["no value"]),
        ("claims:\n  - says: a\n    better: {}\n    than: {lr: 1}\n", 3, ["every trial"]),
        (f"claims:\n{CLAIM}    figure: speed\n", 5, ["unknown metric 'speed'", "Known: test_accuracy"]),
        (f"claims:\n{CLAIM}    metric: [test_loss]\n", 5, ["expected a single value"]),
        (f"claims:\n{CLAIM}    metric: test/loss\n    figure: test_loss\n", 6, ["another name of metric"]),
        (f"claims:\n{CLAIM}    points: much\n", 5, ["points must be a number", "'much'"]),
        (
            "claims:\n  - says: a\n    varies: {lr: 1}\n    than: {lr: 2}\n    points: 1\n",
            5,
            ["leave points out"],
        ),
        (
            "claims:\n  - says: a\n    better: {lr: 1}\n    than: {lr: 2, figure: test_loss}\n",
            4,
            ["test_accuracy and test_loss cannot be compared"],
        ),
    ],
)
def test_mistakes_in_claims_are_named_with_their_line(
    tmp_path: Path, text: str, line: int, named: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'study.yaml'}:{line}: ")
    for word in named:
        assert word in str(caught.value)


def test_sides_that_select_nothing_or_the_same_are_refused(tmp_path: Path) -> None:
    trials = [t.trial.spec for t in FOUND.trials]
    (claim,) = read(tmp_path, f"claims:\n{CLAIM}").claims
    check([claim], trials)
    with pytest.raises(
        ConfigError, match=r"study.yaml:3: this selects no trial.*model is Baseline, Modernist there"
    ):
        check([claim], [spec for spec in trials if spec.model != "Stabilized"])
    (claim,) = read(tmp_path, "claims:\n  - {says: a, better: {seed: 0}, than: {model: Baseline}}\n").claims
    with pytest.raises(ConfigError, match="1 trials are on both sides"):
        check([claim], trials)


def test_diverged_trials_are_no_evidence() -> None:
    trial = result(TrialSpec(train_size=100, val_size=50), None)
    assert trial.status is TrialStatus.DIVERGED
    (judged,) = claims.judge([better("Baseline", "Baseline")], [trial])
    assert judged.verdict is Verdict.UNMEASURED
    assert math.isfinite(judged.p_adjusted)
