"""Claims: what a file may say beforehand, and what made-up trials say of it."""

from __future__ import annotations

import dataclasses
import math
import random
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_report import result, study, words

from dlbench import report, stats
from dlbench.analysis import claims
from dlbench.analysis.claims import Verdict
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.protocols import compare_protocols, variation_by_source
from dlbench.errors import ConfigError, UnknownNameError
from dlbench.records import OUTCOME_FIELDS, Outcome, TrialStatus
from dlbench.report.protocols import protocol_report, variation_report
from dlbench.report.verdicts import ClaimsReport, counts_table, in_short, summary
from dlbench.spec import config
from dlbench.spec.claims import Claim, Selection, check
from dlbench.spec.designs import expand
from dlbench.spec.metrics import KNOWN_METRICS, metric, metric_key
from dlbench.spec.trial import TrialSpec
from dlbench.storage.results import TrialResult
from dlbench.studies.result import StudyResult


def side(metric: str = "test_accuracy", **fields: Any) -> Selection:
    return Selection(tuple((name, (value,)) for name, value in fields.items()), metric)


def better(first: str, second: str, **options: Any) -> Claim:
    return Claim(f"{first} is better", side(model=first), side(model=second), **options)


def judge(made: Sequence[Claim], trials: Sequence[TrialResult]) -> tuple[claims.Judgement, ...]:
    return claims.judge(made, trials).judgements


def noisy(means: dict[str, float], std: float) -> Any:
    return lambda spec: means[spec.model] + random.Random(f"{spec.model} {spec.seed}").gauss(0, std)


MODELS = {"Baseline": 0.95, "Stabilized": 0.98, "Modernist": 0.9505}
FOUND = study(noisy(MODELS, 0.002), model=list(MODELS), seed=range(8))


def test_verdicts_in_each_direction() -> None:
    judged = judge(
        [
            better("Stabilized", "Baseline"),
            better("Baseline", "Stabilized"),
            better("Modernist", "Baseline"),
            better("SimpleCNN", "Baseline"),
        ],
        FOUND.trials,
    )
    assert [each.verdict for each in judged] == [Verdict.HOLDS, Verdict.REFUTED, Verdict.OPEN, Verdict.OPEN]
    assert [each.is_tested for each in judged] == [True, True, True, False]
    assert judged[0].comparison is not None
    assert judged[1].comparison is not None
    assert judged[0].comparison.difference.estimate == pytest.approx(0.03, abs=0.004)
    assert judged[1].comparison.difference.low == -judged[0].comparison.difference.high
    assert judged[3].comparison is None
    assert judged[0].trial_ids[0][0] == next(t.id for t in FOUND.trials if t.model == "Stabilized")


def test_pairs_are_of_one_seed_and_split_and_the_test_is_the_paired_one() -> None:
    (judged,) = judge([better("Modernist", "Baseline")], FOUND.trials)
    values = {
        model: [t.test_accuracy for t in FOUND.trials if t.model == model]
        for model in ("Modernist", "Baseline")
    }
    assert judged.comparison == stats.paired_comparison(values["Modernist"], values["Baseline"])
    shuffled = random.Random(0).sample(FOUND.trials, len(FOUND.trials))
    (again,) = judge([better("Modernist", "Baseline")], shuffled)
    assert again.comparison == judged.comparison


def test_p_is_corrected_for_the_number_of_claims() -> None:
    found = study(
        noisy({"Baseline": 0.95, "Modernist": 0.9525}, 0.002), model=["baseline", "modernist"], seed=range(8)
    )
    (alone,) = judge([better("Modernist", "Baseline")], found.trials)
    assert alone.verdict is Verdict.HOLDS
    many = judge([better("Modernist", "Baseline")] + [better("SimpleCNN", "Baseline")] * 20, found.trials)
    assert many[0].p_adjusted == pytest.approx(21 * alone.p_adjusted)
    assert many[0].verdict is Verdict.OPEN


@pytest.mark.parametrize(
    ("points", "smallest", "expected"),
    [
        (3.0, None, Verdict.HOLDS),
        (0.5, None, Verdict.DIRECTION),  # the difference is larger than that
        (9.0, None, Verdict.DIRECTION),
        (None, 5.0, Verdict.DIRECTION),  # it is real, but smaller than is of interest
        (None, None, Verdict.HOLDS),
    ],
)
def test_a_claim_holds_by_its_size_and_not_by_direction_alone(
    points: float | None, smallest: float | None, expected: Verdict
) -> None:
    (judged,) = judge(
        [better("Stabilized", "Baseline", points=points, smallest_effect=smallest)], FOUND.trials
    )
    assert judged.comparison is not None
    assert 2.5 < 100 * judged.comparison.difference.low < 3 < 100 * judged.comparison.difference.high < 3.5
    assert judged.verdict is expected


@pytest.mark.parametrize(
    ("points", "smallest", "expected"),
    [
        (1.0, 0.1, Verdict.REFUTED),  # the interval, -0.15 to 0.29 or so, excludes 0.9 and more
        (0.3, 0.1, Verdict.OPEN),
        (None, 0.1, Verdict.OPEN),
        (None, 0.5, Verdict.REFUTED),  # no difference of interest
    ],
)
def test_a_claim_is_refuted_by_a_test_with_a_margin(
    points: float | None, smallest: float, expected: Verdict
) -> None:
    claim = better("Modernist", "Baseline", points=points, smallest_effect=smallest)
    (judged,) = judge([claim], FOUND.trials)
    assert judged.comparison is not None
    low, high = 100 * judged.comparison.difference.low, 100 * judged.comparison.difference.high
    assert low < 0.1 < high < 0.5
    assert judged.verdict is expected
    bound = claims.lower_bound(claim)
    assert bound == max(smallest, (points or 0) - smallest)
    assert (judged.p_refuted <= 0.05) == (high < bound), "the test is the interval's"


def test_claim_and_ranking_are_one_family_with_one_answer() -> None:
    """Four models: 6 comparisons, and 2 claims that these do not answer."""
    means = {"Baseline": 0.95, "Modernist": 0.9526, "Stabilized": 0.98, "High-Vision": 0.97}
    found = study(noisy(means, 0.002), "compare-archs", model=list(means), seed=range(8))
    trials = with_metrics(found, lambda spec: {"test_loss": 1 - means[spec.model] + spec.seed / 1e4})
    found = dataclasses.replace(found, trials=trials)
    loss = Claim("loss", side("test_loss", model="Stabilized"), side("test_loss", model="Baseline"))
    both = Claim("both", Selection((("model", ("Stabilized", "High-Vision")),)), side(model="Baseline"))
    made = [better("Modernist", "Baseline"), better("Baseline", "Modernist"), loss, both]
    judged = claims.judge_study(made, found)
    assert (len(judged.ranked), len(judged.others)) == (6, 2)
    ranked = compare_models(found, others=judged.others).ranking
    assert ranked is not None
    (pair,) = (p for p in ranked.comparisons if {p.a, p.b} == {"Baseline", "Modernist"})
    assert [each.p_adjusted for each in judged.judgements[:2]] == [pair.p_adjusted] * 2
    alone = compare_models(found).ranking
    assert alone is not None
    assert max(p.p_adjusted for p in ranked.comparisons) > 0.01
    assert [p.p_adjusted for p in ranked.comparisons] != [p.p_adjusted for p in alone.comparisons]
    assert (judged.judgements[0].verdict is Verdict.HOLDS) == pair.supported
    assert "Holm's correction over these and 2 claims" in words(
        report.study_report(found, others=judged.others).parts
    )


def test_a_claim_on_the_selection_of_a_grid_is_answered_by_it() -> None:
    rates = {0.1: 0.95, 0.2: 0.9525, 0.3: 0.8}
    found = study(
        lambda spec: (
            rates[spec.learning_rate] + random.Random(f"{spec.learning_rate} {spec.seed}").gauss(0, 0.002)
        ),
        learning_rate=list(rates),
        seed=range(8),
    )
    lead = Claim(
        "lead", side("best_val_accuracy", learning_rate=0.2), side("best_val_accuracy", learning_rate=0.1)
    )
    assert len(claims.judge_study([lead], found).ranked) == 3
    tested = Claim("tested", side(learning_rate=0.2), side(learning_rate=0.1))
    judged = claims.judge_study([tested], found)
    assert (judged.ranked, len(judged.others)) == ((), 1)


def test_times_of_a_study_are_no_evidence() -> None:
    trials = with_metrics(
        FOUND, lambda spec: {"train_time_s": 1.0 + (spec.model == "Baseline") + spec.seed / 1e3}
    )
    claim = Claim("faster", side("train_time_s", model="Stabilized"), side("train_time_s", model="Baseline"))
    judged = claims.judge([claim, better("Stabilized", "Baseline")], trials)
    assert judged.judgements[0].verdict is Verdict.OPEN
    assert judged.judgements[0].comparison is not None
    assert len(judged.others) == 1, "it takes nothing from the other claim"
    table = ClaimsReport(judged).tables[0]
    assert table.texts()[0][7] == "-"
    assert "the trials of a study share the machine" in table.caption


def test_what_one_correction_over_a_report_would_change() -> None:
    found = study(
        noisy({"Baseline": 0.95, "Modernist": 0.9525}, 0.002), model=["baseline", "modernist"], seed=range(8)
    )
    one = claims_report([better("Modernist", "Baseline")], found.trials)
    many = claims_report(
        [better("Modernist", "Baseline")] + [better("SimpleCNN", "Baseline")] * 20, found.trials
    )
    _, together = summary([one, many])
    assert isinstance(together, report.Points)
    assert together.lead.endswith(
        "With one correction over all 22 tests of these studies, 1 verdict would change:"
    )
    assert together.points == ("“Modernist is better” would be open instead of holds",)


def test_the_power_of_the_study_is_for_the_claimed_difference() -> None:
    (judged,) = judge([better("Modernist", "Baseline", points=0.3)], FOUND.trials)
    assert judged.comparison is not None
    std = judged.comparison.difference.std
    assert judged.power == stats.power_of(8, 0.003, std)
    assert judged.seeds is not None
    assert judged.seeds.num_seeds == stats.seeds_needed(0.003, std)
    assert judged.seeds.low < judged.seeds.num_seeds < (judged.seeds.high or 0)


def with_metrics(found: StudyResult, metrics: Any) -> tuple[TrialResult, ...]:
    return tuple(
        TrialResult(t.trial, t.status, Outcome.from_record({**t.outcome, **metrics(t.trial.spec)}), t.history)
        for t in found.trials
    )


def test_a_number_may_stand_for_a_side() -> None:
    judged = judge(
        [
            Claim("it reaches 96 %", side(model="Stabilized"), Selection((), number=96.0)),
            Claim("it stays below 96 %", Selection((), number=96.0), side(model="Baseline")),
            Claim("it reaches 99 %", side(model="Stabilized"), Selection((), number=99.0)),
        ],
        FOUND.trials,
    )
    assert [each.verdict for each in judged] == [Verdict.HOLDS, Verdict.HOLDS, Verdict.REFUTED]
    values = [t.test_accuracy for t in FOUND.trials if t.model == "Stabilized"]
    assert judged[0].comparison == stats.paired_comparison(values, [0.96] * 8)
    assert judged[0].trial_ids[1] == ()


def test_a_verdict_that_other_seeds_would_overturn_is_fragile() -> None:
    means = {"Baseline": 0.95, "Modernist": 0.9525, "Stabilized": 0.98}
    found = study(noisy(means, 0.002), model=[*means], seed=range(8))
    near, far = judge([better("Modernist", "Baseline"), better("Stabilized", "Baseline")], found.trials)
    assert near.verdict is Verdict.HOLDS
    assert near.repeats is not None
    assert far.repeats is not None
    assert far.repeats > 0.95
    assert (near.is_fragile, far.is_fragile) == (near.repeats < 2 / 3, False)
    # by simulation: how often do eight new seeds give the same verdict?
    difference = near.comparison
    assert difference is not None
    error = difference.difference.std / math.sqrt(8)
    draw = random.Random(0)
    truths = (draw.gauss(difference.difference.estimate, error) for _ in range(4000))
    repeated = [draw.gauss(truth, error) / error for truth in truths]
    factor = near.p_adjusted / difference.p_value
    critical = statistics.NormalDist().inv_cdf(1 - 0.05 / factor / 2)
    shift = -statistics.NormalDist().inv_cdf(difference.p_value / 2) - difference.difference.estimate / error
    expected = sum(each + shift > critical for each in repeated) / len(repeated)
    assert near.repeats == pytest.approx(expected, abs=0.03)


def test_the_claims_of_others_have_a_table_of_their_own() -> None:
    made = [better("Stabilized", "Baseline", source="A paper"), better("Modernist", "Baseline")]
    found = claims_report(made, FOUND.trials)
    assert [table.title for table in found.tables] == ["Claims of A paper", "Our own claims"]
    assert [len(table.rows) for table in found.tables] == [1, 1]
    said = words(found.parts)
    assert said.startswith("Of 1 claim of A paper, 1 holds.")
    assert "Of 1 claim of our own, 1 is open." in said


def test_points_of_curves_are_metrics() -> None:
    from dlbench.records import Epoch

    curve = tuple(Epoch(3.0 - n, 0.5, 2.0 - n / 2, 0.1 * n) for n in range(1, 4))
    trial = dataclasses.replace(FOUND.trials[0], history=curve)
    assert trial.value("val/accuracy@2") == pytest.approx(0.2)
    assert trial.value("train/loss@-1") == pytest.approx(0.0)
    assert trial.value("val/loss@4") is None
    assert (metric("val/accuracy@2").unit, metric("train/loss@-1").lower_is_better) == ("points", True)
    with pytest.raises(UnknownNameError):
        metric("val/accuracy@0")


def test_less_is_better_of_losses_and_times() -> None:
    trials = with_metrics(FOUND, lambda spec: {"test_loss": 1 - MODELS[spec.model] + spec.seed / 1e4})
    claim = Claim("s", side("test_loss", model="Stabilized"), side("test_loss", model="Baseline"))
    (judged,) = judge([claim], trials)
    assert judged.verdict is Verdict.HOLDS
    assert judged.comparison is not None
    assert judged.comparison.difference.estimate == pytest.approx(0.03)


def test_each_side_may_have_its_own_metric() -> None:
    trials = with_metrics(FOUND, lambda spec: {"test_accuracy_augmented": 0.5 + spec.seed / 100})
    model = side(model="Baseline")
    claim = Claim("clean is easier", model, Selection(model.fields, "test_accuracy_augmented"))
    (judged,) = judge([claim], trials)
    assert judged.verdict is Verdict.HOLDS


def test_several_configurations_are_averaged_seed_by_seed_and_gaps_left_out() -> None:
    def accuracy(spec: TrialSpec) -> float | None:
        if (spec.learning_rate, spec.seed) == (0.2, 2):
            return None
        return 0.5 + spec.learning_rate + spec.seed / 100

    found = study(accuracy, learning_rate=[0.1, 0.2], seed=[0, 1, 2])
    values = claims.side_values(side(model="baseline"), found.trials)
    assert {seed: value for (seed, *_), value in values.items()} == {
        0: pytest.approx(0.64),
        1: pytest.approx(0.65),
        2: pytest.approx((0.61 + 0) / 2),
    }, "a trial that diverged has an accuracy of 0"
    waiting = [t for t in found.trials if (t.learning_rate, t.seed) != (0.1, 2)]
    assert {seed for seed, *_ in claims.side_values(side(model="baseline"), waiting)} == {0, 1}


def test_variation_is_judged_by_spread() -> None:
    def accuracy(spec: TrialSpec) -> float:
        return 0.9 + random.Random(f"{spec.vary} {spec.seed}").gauss(0, 0.02 if spec.vary == "all" else 0.002)

    found = study(accuracy, vary=["all", "init"], seed=range(20))
    wide, narrow = side(vary="all"), side(vary="init")
    judged = judge(
        [Claim("w", wide, narrow, spread=True), Claim("n", narrow, wide, spread=True)], found.trials
    )
    assert [each.verdict for each in judged] == [Verdict.HOLDS, Verdict.REFUTED]
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
    assert KNOWN_METRICS.keys() <= {*OUTCOME_FIELDS, "collapsed"}
    assert metric_key("test/accuracy") == metric_key("test_accuracy") == "test_accuracy"
    assert metric("val/loss").lower_is_better
    with pytest.raises(UnknownNameError, match="test_accuracy"):
        metric("test_acuracy")


def claims_report(made: list[Claim], trials: Sequence[TrialResult]) -> ClaimsReport:
    return ClaimsReport(claims.judge(made, trials))


def test_the_table_quotes_the_claim_and_names_trials() -> None:
    found = claims_report(
        [better("Stabilized", "Baseline", points=2.5), better("Modernist", "Baseline")], FOUND.trials
    )
    first, second = found.tables[0].texts()
    assert first[:4] == ["“Stabilized is better”", "direction only", "+2.50 points", "0.10 points"]
    assert first[4].startswith("+3.")
    assert first[5] == "8"
    assert FOUND.trials[0].id in first[-1]
    assert second[1] == "open"
    said = words(found.parts)
    assert said.startswith("Of 2 claims, 1 holds in direction only and 1 is open.")
    assert re.search(r"“Modernist is better”: about \d+ \(\d+ to [\d,]+( or more)?\)", said)


def test_the_verdicts_of_several_studies_stand_together() -> None:
    first, second = (
        claims_report(made, FOUND.trials)
        for made in ([better("Stabilized", "Baseline")], [better("Baseline", "Stabilized")])
    )
    said, together = summary([first, second])
    assert said == "Of 2 claims, 1 holds and 1 is refuted."
    assert together == (
        "Each study is a family of its own. With one correction over all 2 tests of these studies, no verdict would "
        "change."
    )
    counts = counts_table([("First", first), ("Second", second), ("Third", None)])
    assert [row[:4] for row in counts.texts()] == [["First", "1", "1", "0"], ["Second", "1", "0", "0"]]
    (short,) = in_short(first)
    assert isinstance(short, report.Table)
    assert short.texts() == [[first.tables[0].texts()[0][place] for place in (0, 1, 4)]]


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
    (judged,) = judge([better("Stabilized", "Baseline")], found.trials)
    assert judged.verdict is Verdict.OPEN
    (row,) = claims_report([better("Stabilized", "Baseline")], found.trials).tables[0].texts()
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


def test_numbers_sources_and_published_runs_are_read(tmp_path: Path) -> None:
    text = (
        "model: [Baseline, Stabilized]\n"
        "claims:\n"
        "  - {says: a, source: A paper, better: {model: Baseline, metric: val/accuracy@5}, than: 90}\n"
        "  - {says: b, better: 20, than: {model: Baseline}}\n"
        "published:\n"
        "  - {name: one run, source: A paper, val/accuracy: 0.9, train/loss@-1: 0.5, of: {model: baseline}}\n"
    )
    found = read(tmp_path, text)
    first, second = found.claims
    assert (first.source, first.second.number, first.second.metric) == ("A paper", 90.0, "val/accuracy@5")
    assert (second.first.number, second.source) == (20.0, "")
    (published,) = found.published
    assert published.values == {"best_val_accuracy": 0.9, "train/loss@-1": 0.5}
    assert published.of is not None
    assert published.of.selects(TrialSpec(model="Baseline"))
    check(found.claims, [TrialSpec(model="Baseline")])


def test_the_smallest_effect_of_a_study_is_that_of_its_claims_in_points(tmp_path: Path) -> None:
    own, loss = CLAIM + "    smallest_effect: 0.5\n", CLAIM + "    metric: test/loss\n"
    text = f"model: Baseline\nsmallest_effect: 0.2\nclaims:\n{CLAIM}{own}{loss}"
    assert [claim.margin for claim in read(tmp_path, text).claims] == [0.2, 0.5, 0.01]
    assert [claim.margin for claim in config.read_claims(text, Path("x.yaml"))[1]] == [0.2, 0.5, 0.01]
    assert read(tmp_path, f"claims:\n{CLAIM}").claims[0].margin == 0.1


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
        (f"claims:\n{CLAIM}    smallest_effect: -1\n", 5, ["smallest_effect", "at least 0", "-1"]),
        ("smallest_effect: .inf\n", 1, ["smallest_effect", "at least 0"]),
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
        ("claims:\n  - says: a\n    better: {lr: 1}\n    than: fast\n", 4, ["or is a number", "'fast'"]),
        ("claims:\n  - says: a\n    better: 1\n    than: 2\n", 3, ["expected 'key: value'"]),
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


def test_a_side_names_a_sum_of_transforms_with_its_arguments() -> None:
    (spec,) = expand({"transform": ["flip+crop(padding=2)"]}).trials
    sides = [side(transform=f"flip+crop(padding={padding})") for padding in (2, 4)]
    assert [each.selects(spec) for each in sides] == [True, False]


def test_diverged_trials_are_no_evidence() -> None:
    trial = result(TrialSpec(train_size=100, val_size=50), None)
    assert trial.status is TrialStatus.DIVERGED
    (judged,) = judge([better("Baseline", "Baseline")], [trial])
    assert judged.verdict is Verdict.OPEN
    assert math.isfinite(judged.p_adjusted)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.0, 0.004])
def test_verdicts_err_in_one_study_of_twenty_at_most(gain: float) -> None:
    """Three models, of which none, or one, is better; no claim says anything false of the size of its difference."""
    draw, num_studies = random.Random(7), 600
    means = {"Baseline": 0.95 + gain, "Stabilized": 0.95, "Modernist": 0.95}
    made = [
        better("Baseline", "Stabilized", points=100 * gain or None, smallest_effect=0.1),
        better("Stabilized", "Modernist"),
        Claim(
            "both",
            side(model="Baseline"),
            Selection((("model", ("Stabilized", "Modernist")),), "test_accuracy"),
        ),
    ]
    false_directions = refuted = found = 0
    for _ in range(num_studies):
        values = {
            (model, seed): draw.gauss(mean, 0.004) for model, mean in means.items() for seed in range(6)
        }
        trials = study(
            lambda spec, values=values: values[spec.model, spec.seed],
            "compare-archs",
            model=[*means],
            seed=range(6),
        )
        judged = claims.judge_study(made, trials)
        verdicts = [each.verdict for each in judged.judgements]
        by_size = [each.p_refuted <= 0.05 for each in judged.judgements]
        ranked = compare_models(trials, others=judged.others)
        true = [0, 2] if gain else []  # the claims whose direction is the true one
        false_directions += any(
            (verdict in (Verdict.HOLDS, Verdict.DIRECTION) and number not in true)
            or (verdict is Verdict.REFUTED and not by_size[number])
            for number, verdict in enumerate(verdicts)
        )
        refuted += bool(gain) and (by_size[0] or by_size[2])
        found += verdicts[0] in (Verdict.HOLDS, Verdict.DIRECTION)
        pairs = [{pair.a, pair.b} for pair in ranked.supported]
        assert (verdicts[1] is not Verdict.OPEN and not by_size[1]) <= ({"Stabilized", "Modernist"} in pairs)
    most = 0.05 + 3 * math.sqrt(0.05 * 0.95 / num_studies)
    assert false_directions / num_studies <= most
    assert refuted / num_studies <= most
    assert found / num_studies > 0.1 if gain else True, "the claims could be found"
