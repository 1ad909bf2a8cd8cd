"""Intervals, tests and rankings against published examples, other formulas and simulation."""

import itertools
import math
import random
import statistics
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dlbench import stats
from dlbench.errors import InputError
from dlbench.stats.components import crossed_sources
from dlbench.stats.intervals import mean_std

VALUES = st.floats(-100, 100).map(lambda x: round(x, 3))  # far coarser than the resolution of 1e-6
SAMPLES = st.lists(VALUES, min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12)
P_VALUES = st.lists(st.floats(0, 1), max_size=7)

# Student (1908): additional hours of sleep under two drugs, ten patients; R's data set `sleep`.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def seeded(**groups: list[float]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(values)) for name, values in groups.items()}


def nan_equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@given(
    st.lists(VALUES | st.floats(-1e100, 1e100), min_size=2, max_size=12), st.randoms(use_true_random=False)
)
@example([1e16, 1.0, -1e16], random.Random(0))
def test_means_and_standard_deviations_are_correctly_rounded_in_any_order(sample: list[float], order) -> None:
    mean, std = mean_std(sample)
    exact = [Fraction(value) for value in sample]
    exact_mean = sum(exact) / len(exact)
    variance = sum((value - exact_mean) ** 2 for value in exact) / (len(exact) - 1)
    assert mean == float(exact_mean)
    for neighbour in (math.nextafter(std, 0), math.nextafter(std, math.inf)):  # none is nearer to the root
        halfway = (Fraction(std) + Fraction(neighbour)) / 2
        assert (variance <= halfway**2) if neighbour > std else (variance >= halfway**2) or std == 0
    assert mean_std(order.sample(sample, len(sample))) == (mean, std)


@given(st.floats(-1e100, 1e100), st.integers(2, 50))
@example(0.48592769656281265, 6)  # sum and division both round, to a neighbour of the value
def test_equal_values_have_no_spread(value: float, n: int) -> None:
    assert mean_std([value] * n) == (value, 0)


class TestStdInterval:
    def test_published_factors(self) -> None:
        # Tables of the chi-square distribution: 2.700 and 19.023 with 9 degrees of freedom
        sample = [value / statistics.stdev(SLEEP_1) for value in SLEEP_1]
        interval = stats.std_interval(sample)
        assert interval.estimate == pytest.approx(1)
        assert (interval.low, interval.high) == pytest.approx(
            (math.sqrt(9 / 19.023), math.sqrt(9 / 2.700)), rel=1e-4
        )
        assert (interval.n, interval.method) == (10, "chi-square")

    def test_covers_as_often_as_it_says(self) -> None:
        draw = np.random.default_rng(0)
        intervals = [stats.std_interval(draw.normal(5, 2, 6), 0.9) for _ in range(2000)]
        assert np.mean([i.low <= 2 <= i.high for i in intervals]) == pytest.approx(0.9, abs=0.025)

    def test_one_value_and_equal_values(self) -> None:
        assert math.isnan(stats.std_interval([1.0]).estimate)
        assert math.isnan(stats.std_interval([1.0]).high)
        equal = stats.std_interval([2.0, 2.0])
        assert (equal.estimate, equal.low, equal.high) == (0, 0, 0)


class TestSpreadComparison:
    @given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=12))
    def test_is_brown_forsythe_with_welchs_degrees_of_freedom(self, pairs: list[tuple[float, float]]) -> None:
        a, b = ([pair[i] for pair in pairs] for i in (0, 1))
        deviations = [np.abs(np.array(x) - np.median(x)) for x in (a, b)]
        assume(min(np.std(x) for x in deviations) > 1e-3)
        compared = stats.spread_comparison(a, b)
        expected = scipy.stats.ttest_ind(*deviations, equal_var=False)
        assert compared.p_value == pytest.approx(expected.pvalue, rel=1e-6)
        # In groups of one size its statistic is that of scipy's Brown-Forsythe test.
        assert expected.statistic**2 == pytest.approx(
            scipy.stats.levene(a, b, center="median").statistic, rel=1e-6, abs=1e-9
        )
        assert compared.test == "brown-forsythe"
        difference = deviations[0].mean() - deviations[1].mean()
        assert compared.difference.estimate == pytest.approx(difference, rel=1e-6, abs=1e-9)

    def test_sees_a_spread_and_no_shift(self) -> None:
        draw = np.random.default_rng(1)
        narrow, wide = draw.normal(0, 1, 30), draw.normal(0, 4, 30)
        assert stats.spread_comparison(wide, narrow).p_value < 1e-4
        assert stats.spread_comparison(narrow + 100, narrow).p_value == pytest.approx(1)


class TestMeanInterval:
    def test_student_sleep(self) -> None:
        # R: t.test(extra ~ group, data = sleep, paired = TRUE), its mean and confidence interval
        interval = stats.mean_interval([a - b for a, b in zip(SLEEP_1, SLEEP_2, strict=True)])
        assert interval.estimate == pytest.approx(-1.58)
        assert (interval.low, interval.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)
        assert (interval.n, interval.method, interval.confidence) == (10, "Student t", 0.95)

    @given(st.lists(VALUES, min_size=2, max_size=12), st.floats(0.01, 0.999))
    def test_agrees_with_scipy(self, values: list[float], confidence: float) -> None:
        std = np.std(values, ddof=1)
        assume(std > 1e-3)
        low, high = scipy.stats.t.interval(
            confidence, len(values) - 1, np.mean(values), scipy.stats.sem(values)
        )
        interval = stats.mean_interval(values, confidence)
        assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9, abs=1e-6)
        assert interval.std == pytest.approx(std)

    @given(SAMPLES, st.randoms(use_true_random=False))
    def test_contains_its_estimate_and_ignores_order(self, values: list[float], random) -> None:
        interval = stats.mean_interval(values)
        assert len(values) == 1 or interval.low <= interval.estimate <= interval.high
        shuffled = random.sample(values, len(values))
        assert stats.mean_interval(shuffled) == interval or len(values) == 1

    def test_one_value_has_no_bounds(self) -> None:
        interval = stats.mean_interval([0.9])
        assert interval.estimate == 0.9
        assert interval.n == 1
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
        assert math.isnan(interval.std)

    def test_equal_values_have_width_zero(self) -> None:
        interval = stats.mean_interval([0.1] * 3)
        assert (interval.low, interval.estimate, interval.high) == (0.1, 0.1, 0.1)

    @pytest.mark.parametrize("values", [[], [0.9, math.nan], [math.inf]])
    def test_refuses_what_is_not_finite(self, values: list[float]) -> None:
        with pytest.raises(InputError, match=r"at least one value|finite"):
            stats.mean_interval(values)

    @pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
    def test_refuses_other_confidences(self, confidence: float) -> None:
        with pytest.raises(InputError, match="confidence"):
            stats.mean_interval([1, 2], confidence)


class TestBootstrapInterval:
    def test_spatial_test_data(self) -> None:
        # Efron and Tibshirani (1993), "An introduction to the bootstrap", table 14.2: the plug-in variance of
        # the spatial test data A has the 90% BCa interval (115.8, 259.6) by 2,000 resamples.
        a = [
            48,
            36,
            20,
            29,
            42,
            42,
            20,
            42,
            22,
            41,
            45,
            14,
            6,
            0,
            33,
            28,
            34,
            4,
            32,
            24,
            47,
            41,
            24,
            26,
            30,
            41,
        ]
        interval = stats.bootstrap_interval(a, np.var, confidence=0.90)
        assert interval.estimate == pytest.approx(171.5, abs=0.05)
        assert (interval.low, interval.high) == pytest.approx((115.8, 259.6), abs=3)
        assert interval.method == "bootstrap BCa"

    @pytest.mark.parametrize(
        ("name", "function"),
        [("mean", np.mean), ("median", np.median), ("iqm", stats.interquartile_mean)],
    )
    def test_names_stand_for_their_functions(self, name, function) -> None:
        values = [5.0, 1.0, 2.0, 3.5, 9.0, 4.0, 2.5, 8.0]
        by_name = stats.bootstrap_interval(values, name, num_resamples=499)
        assert by_name == stats.bootstrap_interval(values, function, num_resamples=499)
        assert by_name.estimate == function(values)
        assert by_name != stats.bootstrap_interval(values, name, num_resamples=499, seed=1)

    @settings(max_examples=30)
    @given(st.lists(VALUES, min_size=2, max_size=12), st.randoms(use_true_random=False))
    def test_contains_its_estimate_and_ignores_order(self, values: list[float], random) -> None:
        interval = stats.bootstrap_interval(values, num_resamples=499)
        assert interval.low <= interval.estimate <= interval.high
        shuffled = random.sample(values, len(values))
        assert stats.bootstrap_interval(shuffled, num_resamples=499) == interval

    def test_degenerate_samples(self) -> None:
        one = stats.bootstrap_interval([0.9])
        assert one.estimate == 0.9
        assert math.isnan(one.low)
        equal = stats.bootstrap_interval([0.1] * 5, "iqm")
        assert equal.low == equal.estimate == equal.high

    @pytest.mark.filterwarnings("error")
    def test_percentile_where_bca_is_undefined(self) -> None:
        # the median is 1 whichever value is left out, so the acceleration is 0/0
        interval = stats.bootstrap_interval([0, 1, 1, 1, 1], "median")
        assert (interval.low, interval.high, interval.method) == (0, 1, "bootstrap percentile")

    def test_refuses_an_unknown_statistic(self) -> None:
        with pytest.raises(InputError, match="mean, iqm, median"):
            stats.bootstrap_interval([1, 2], "mode")


class TestInterquartileMean:
    def test_by_hand(self) -> None:
        assert stats.interquartile_mean([8, 1, 7, 2, 6, 3, 5, 4]) == 4.5  # mean of 3, 4, 5, 6
        assert stats.interquartile_mean([0.1, 0.96, 0.97, 0.98, 0.99]) == pytest.approx(0.97)
        assert stats.interquartile_mean([1, 2, 6]) == 3  # too few to leave any out

    def test_refuses_nan(self) -> None:
        with pytest.raises(InputError, match="finite"):
            stats.interquartile_mean([1, math.nan])


class TestWilsonInterval:
    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
    )
    def test_newcombe(self, successes: int, n: int, low: float, high: float) -> None:
        # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3
        interval = stats.wilson_interval(successes, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
        assert interval.estimate == successes / n

    @given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_contains_its_estimate_and_mirrors(self, counts: tuple[int, int]) -> None:
        successes, n = counts
        interval, mirrored = stats.wilson_interval(successes, n), stats.wilson_interval(n - successes, n)
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
        assert (interval.low, interval.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low))

    def test_std_is_that_of_the_zeros_and_ones(self) -> None:
        assert stats.wilson_interval(3, 5).std == pytest.approx(statistics.stdev([1, 1, 1, 0, 0]))
        assert math.isnan(stats.wilson_interval(1, 1).std)

    @pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
    def test_refuses_impossible_counts(self, successes: int, n: int) -> None:
        with pytest.raises(InputError, match="successes"):
            stats.wilson_interval(successes, n)


class TestPairedComparison:
    def test_student_sleep(self) -> None:
        # R: t.test(extra ~ group, data = sleep, paired = TRUE): t = -4.0621, df = 9, p = 0.002833
        comparison = stats.paired_comparison(SLEEP_1, SLEEP_2)
        assert comparison.p_value == pytest.approx(0.002833, abs=5e-7)
        assert (comparison.difference.low, comparison.difference.high) == pytest.approx(
            (-2.4598858, -0.7001142)
        )
        assert comparison.probability_of_superiority == 0.05  # one tie, nine losses
        assert (comparison.n, comparison.test) == (10, "t")

    def test_effect_size_of_lakens(self) -> None:
        # Lakens (2013), table 1: two movies rated by ten people, d_z = 1.50; J(9) = 0.9139 in Hedges (1981)
        first, second = [9, 7, 8, 9, 8, 9, 9, 10, 9, 9], [9, 6, 7, 8, 7, 9, 8, 8, 8, 7]
        assert stats.paired_comparison(first, second).effect_size == pytest.approx(1.50 * 0.9139, abs=1e-4)

    def test_hollander_and_wolfe_depression(self) -> None:
        # Hollander and Wolfe (1973), p. 29; in R's ?wilcox.test V = 40 and one-sided p = 0.01953
        before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
        after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
        comparison = stats.paired_comparison(before, after, "wilcoxon")
        assert comparison.p_value == pytest.approx(2 * 0.01953, abs=1e-5)
        assert comparison.test == "wilcoxon"

    @given(PAIRS, st.sampled_from(["auto", "t", "wilcoxon"]))
    def test_swapping_a_and_b_mirrors(self, pairs: list[tuple[float, float]], test) -> None:
        a, b = zip(*pairs, strict=True)
        forth, back = stats.paired_comparison(a, b, test), stats.paired_comparison(b, a, test)
        assert forth.difference.estimate == -back.difference.estimate
        assert nan_equal(forth.difference.low, -back.difference.high)
        assert nan_equal(forth.effect_size, -back.effect_size)
        assert nan_equal(forth.p_value, back.p_value)
        assert forth.probability_of_superiority + back.probability_of_superiority == pytest.approx(1)

    @given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=12), st.floats(0.001, 0.5))
    def test_p_value_and_interval_agree(self, pairs: list[tuple[float, float]], alpha: float) -> None:
        comparison = stats.paired_comparison(*zip(*pairs, strict=True), test="t", confidence=1 - alpha)
        assume(comparison.difference.std > 0 and abs(comparison.p_value - alpha) > 1e-6)
        assert (comparison.p_value < alpha) == (comparison.difference.low * comparison.difference.high > 0)

    @pytest.mark.parametrize("test", ["auto", "t", "wilcoxon"])
    @pytest.mark.parametrize("n", [1, 2, 6])
    def test_identical_values(self, test, n: int) -> None:
        comparison = stats.paired_comparison([0.9] * n, [0.9] * n, test)
        assert comparison.p_value == 1
        assert comparison.difference.estimate == 0
        assert comparison.probability_of_superiority == 0.5
        assert math.isnan(comparison.effect_size)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_equal_differences_are_not_certainty(self, dtype) -> None:
        # 0.91 - 0.90, 0.94 - 0.93 and 0.98 - 0.97 differ in the last bits; Student's p would be about 1e-29
        a, b = dtype([0.91, 0.94, 0.98]), dtype([0.90, 0.93, 0.97])
        comparison = stats.paired_comparison(a, b)
        assert comparison.p_value == 2 ** (1 - 3)
        assert comparison.test == "wilcoxon"
        assert math.isnan(comparison.effect_size)
        assert math.isnan(stats.paired_comparison(a, b, "t").p_value)

    def test_float32_and_float64_tie(self) -> None:
        comparison = stats.paired_comparison([0.1, 0.7], np.float32([0.1, 0.7]))
        assert comparison.difference.estimate == 0
        assert comparison.probability_of_superiority == 0.5

    def test_one_pair_settles_nothing(self) -> None:
        comparison = stats.paired_comparison([0.99], [0.10])
        assert comparison.p_value == 1
        assert math.isnan(comparison.difference.low)

    def test_two_pairs_have_no_effect_size(self) -> None:
        assert math.isnan(stats.paired_comparison([1, 3], [0, 1]).effect_size)

    def test_refusals(self) -> None:
        with pytest.raises(InputError, match="2 and 1"):
            stats.paired_comparison([1, 2], [1])
        with pytest.raises(InputError, match="auto, t, wilcoxon"):
            stats.paired_comparison([1], [1], "sign")


class TestWelchComparison:
    def test_student_sleep(self) -> None:
        # R: t.test(extra ~ group, data = sleep): t = -1.8608, df = 17.776, p-value = 0.07939
        comparison = stats.welch_comparison(SLEEP_1, SLEEP_2)
        assert comparison.p_value == pytest.approx(0.07939, abs=5e-6)
        interval = comparison.difference.low, comparison.difference.high
        assert interval == pytest.approx((-3.3654832, 0.2054832), abs=1e-7)
        assert (comparison.n, comparison.test) == (20, "welch")

    @pytest.mark.filterwarnings("ignore:Precision loss")
    @given(
        st.lists(VALUES, min_size=2, max_size=9),
        st.lists(VALUES, min_size=2, max_size=9),
    )
    def test_agrees_with_scipy(self, a: list[float], b: list[float]) -> None:
        assume(np.std(a) + np.std(b) > 1e-2)
        comparison = stats.welch_comparison(a, b)
        result = scipy.stats.ttest_ind(a, b, equal_var=False)
        assert comparison.p_value == pytest.approx(result.pvalue, rel=1e-6, abs=1e-12)
        u = scipy.stats.mannwhitneyu(a, b).statistic
        assert comparison.probability_of_superiority == pytest.approx(u / (len(a) * len(b)))

    def test_effect_size(self) -> None:
        # equal variances and sizes: df = 2(n - 1) = 8, for which Hedges (1981) has J = 0.9027
        a, b = [1, 2, 3, 4, 5], [3, 4, 5, 6, 7]
        assert stats.welch_comparison(a, b).effect_size == pytest.approx(
            -2 / math.sqrt(2.5) * 0.9027, abs=1e-4
        )

    @pytest.mark.parametrize(("a", "b"), [([1], [2, 3]), ([1, 1], [2, 2])])
    def test_undefined_is_nan(self, a: list[float], b: list[float]) -> None:
        comparison = stats.welch_comparison(a, b)
        assert comparison.difference.estimate < 0
        assert math.isnan(comparison.p_value)
        assert math.isnan(comparison.difference.low)
        assert math.isnan(comparison.effect_size)


class TestMcNemar:
    def test_fay(self) -> None:
        # Fay (2011), "Exact McNemar's test and matching confidence intervals" (R package exact2x2): the table
        # 21, 9, 2, 12 has p = 0.06543
        pairs = [(True, True)] * 21 + [(True, False)] * 9 + [(False, True)] * 2 + [(False, False)] * 12
        assert stats.mcnemar(*zip(*pairs, strict=True)) == stats.McNemar(
            21, 9, 2, 12, pytest.approx(0.06543, abs=5e-6)
        )

    @given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
    def test_symmetry_and_formula(self, pairs: list[tuple[bool, bool]]) -> None:
        a, b = zip(*pairs, strict=True)
        forth, back = stats.mcnemar(a, b), stats.mcnemar(np.array(b), np.array(a))
        assert (forth.only_a_correct, forth.only_b_correct) == (back.only_b_correct, back.only_a_correct)
        smaller, n = (
            min(forth.only_a_correct, forth.only_b_correct),
            forth.only_a_correct + forth.only_b_correct,
        )
        tail = 2 * sum(math.comb(n, k) for k in range(smaller + 1)) / 2**n
        assert forth.p_value == back.p_value == pytest.approx(min(1, tail))

    def test_refuses_other_lengths(self) -> None:
        for a, b in [([True], []), ([], [])]:
            with pytest.raises(InputError, match="same examples"):
                stats.mcnemar(a, b)


class TestHolm:
    def test_worked_example(self) -> None:
        # https://en.wikipedia.org/wiki/Holm-Bonferroni_method, section "Example": at 0.05 only the first and
        # the last are rejected
        assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    @given(P_VALUES)
    @example([])
    @example([0.5, 0.5])
    def test_is_closed_testing_with_bonferroni(self, p_values: list[float]) -> None:
        # Marcus, Peritz and Gabriel (1976): adjusted p = largest Bonferroni p of all families it belongs to
        families = [
            family
            for size in range(1, len(p_values) + 1)
            for family in itertools.combinations(range(len(p_values)), size)
        ]
        expected = [
            max(min(1, len(family) * min(p_values[j] for j in family)) for family in families if i in family)
            for i in range(len(p_values))
        ]
        assert stats.holm(p_values) == pytest.approx(expected)

    @given(P_VALUES)
    def test_is_monotone_and_never_below_the_raw_values(self, p_values: list[float]) -> None:
        adjusted = stats.holm(p_values)
        assert all(raw <= new <= 1 for raw, new in zip(p_values, adjusted, strict=True))
        assert [new for _, new in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)

    @pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
    def test_refuses_what_is_no_probability(self, p: float) -> None:
        with pytest.raises(InputError, match=r"\[0, 1\]"):
            stats.holm([0.5, p])


CLEAR = seeded(
    worse=[0.80, 0.82, 0.81, 0.79, 0.80],
    best=[0.97, 0.98, 0.96, 0.97, 0.98],
    good=[0.90, 0.91, 0.92, 0.89, 0.91],
)
TWINS = CLEAR | seeded(twin=[0.97, 0.97, 0.97, 0.97, 0.97])


class TestCompareAll:
    def test_pairs_on_shared_keys_and_corrects(self) -> None:
        groups = {
            "a": {("s0", 0): 1.0, ("s1", 0): 2.0, ("s2", 0): 4.0, ("s9", 0): 99.0},
            "b": {("s2", 0): 3.5, ("s1", 0): 1.0, ("s0", 0): 0.2},
            "c": {("s0", 0): 6.0, ("s5", 0): 7.0, ("s6", 0): 8.0},  # one shared key does not make a pair
        }
        ab, ac, bc = stats.compare_all(groups)
        assert [(p.a, p.b) for p in (ab, ac, bc)] == [("a", "b"), ("a", "c"), ("b", "c")]
        assert ab.comparison == stats.paired_comparison([1, 2, 4], [0.2, 1, 3.5])
        assert bc.comparison == stats.welch_comparison([3.5, 1, 0.2], [6, 7, 8])
        assert [p.p_adjusted for p in (ab, ac, bc)] == stats.holm(
            [p.comparison.p_value for p in (ab, ac, bc)]
        )

    def test_supported_is_the_adjusted_p_against_alpha(self) -> None:
        for pair in stats.compare_all(TWINS, alpha=0.001):
            assert pair.supported == (pair.p_adjusted <= 0.001)
        assert any(p.supported for p in stats.compare_all(TWINS))
        assert not any(p.supported for p in stats.compare_all(TWINS, alpha=1e-9))

    def test_untestable_pairs_are_not_supported(self) -> None:
        pair, *_ = stats.compare_all(seeded(a=[0.99], b=[0.10], c=[0.5, 0.6]))
        assert pair.p_adjusted == 1
        assert not pair.supported

    def test_fewer_than_two_groups(self) -> None:
        assert stats.compare_all({}) == []

    def test_refuses_alpha_outside_the_unit_interval(self) -> None:
        with pytest.raises(InputError, match="alpha"):
            stats.compare_all(CLEAR, alpha=5)


class TestRanking:
    def test_clear_order(self) -> None:
        result = stats.ranking(CLEAR)
        assert [(e.name, e.place) for e in result.entries] == [("best", "1"), ("good", "2"), ("worse", "3")]
        assert result.winner == "best"
        assert result.entries[0].interval == stats.mean_interval(CLEAR["best"].values())

    def test_indistinguishable_entries_share_places_and_nobody_wins(self) -> None:
        result = stats.ranking(TWINS)
        assert {e.name: e.place for e in result.entries} == {
            "best": "1-2",
            "twin": "1-2",
            "good": "3",
            "worse": "4",
        }
        assert result.winner is None

    def test_overlap_is_not_transitive(self) -> None:
        # a beats c, b can be told from neither: b has all ranks, a and c two each
        result = stats.ranking(seeded(a=[2.0, 2.1, 2.2, 2.1], b=[0.1, 3.2, 0.9, 2.8], c=[1.0, 1.1, 1.0, 1.1]))
        assert {e.name: e.place for e in result.entries} == {"a": "1-2", "b": "1-3", "c": "2-3"}

    def test_lower_is_better(self) -> None:
        result = stats.ranking(CLEAR, higher_is_better=False)
        assert [(e.name, e.place) for e in result.entries] == [("worse", "1"), ("good", "2"), ("best", "3")]
        assert result.winner == "worse"

    def test_one_seed_names_no_winner(self) -> None:
        result = stats.ranking(seeded(a=[0.99], b=[0.10]))
        assert [e.place for e in result.entries] == ["1-2", "1-2"]
        assert result.winner is None

    def test_alone_is_no_winner(self) -> None:
        assert stats.ranking(seeded(a=[1, 2])).winner is None
        with pytest.raises(InputError, match="at least one group"):
            stats.ranking({})

    @settings(max_examples=30)
    @given(
        st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=2, max_size=5),
        st.randoms(use_true_random=False),
    )
    def test_every_rank_can_be_filled_in_any_order_of_groups(self, rows: list[list[float]], random) -> None:
        groups = {f"g{i}": dict(enumerate(row)) for i, row in enumerate(rows)}
        result = stats.ranking(groups)
        means = [e.interval.estimate for e in result.entries]
        assert means == sorted(means, reverse=True)
        for position, entry in enumerate(result.entries, start=1):
            assert entry.best_rank <= position <= entry.worst_rank
        shuffled = dict(random.sample(sorted(groups.items()), len(groups)))
        assert stats.ranking(shuffled).entries == result.entries


class TestSelectionEstimate:
    def test_agrees_with_all_resamples(self) -> None:
        groups = seeded(a=[1.0, 5.0, 3.0], b=[2.0, 2.0, 4.5], c=[0.0, 4.0, 4.0])
        estimate = stats.selection_estimate(groups)
        ranks = []
        for draw in itertools.product(range(3), repeat=3):
            means = {name: sum(group[i] for i in draw) for name, group in groups.items()}
            better = sum(mean > means["a"] for mean in means.values())
            tied = sum(mean == means["a"] for mean in means.values())
            ranks.append([1 / tied if better <= r < better + tied else 0 for r in range(3)])
        assert estimate.selected == "a"
        assert estimate.n == 3
        assert estimate.rank_distribution == pytest.approx(np.mean(ranks, axis=0), abs=0.015)
        assert estimate.probability_first == estimate.rank_distribution[0]

    def test_ties_share_first_place(self) -> None:
        estimate = stats.selection_estimate(seeded(b=[0.9, 0.8, 0.7], a=[0.9, 0.8, 0.7]))
        assert estimate.selected == "a"
        assert estimate.rank_distribution == (0.5, 0.5)

    def test_lower_is_better(self) -> None:
        estimate = stats.selection_estimate(CLEAR, higher_is_better=False)
        assert (estimate.selected, estimate.probability_first) == ("worse", 1)

    def test_only_shared_seeds_count(self) -> None:
        estimate = stats.selection_estimate({"a": {0: 1.0, 1: 1.1, 2: 9.0}, "b": {1: 2.0, 0: 2.1}})
        assert (estimate.selected, estimate.n) == ("b", 2)

    def test_one_seed_says_nothing(self) -> None:
        estimate = stats.selection_estimate(seeded(a=[0.99], b=[0.10]))
        assert estimate.selected == "a"
        assert math.isnan(estimate.probability_first)

    @pytest.mark.parametrize("groups", [{}, {"a": {0: 1.0}, "b": {1: 1.0}}])
    def test_refuses_groups_without_shared_seeds(self, groups) -> None:
        with pytest.raises(InputError, match="share"):
            stats.selection_estimate(groups)


class TestSeedsNeeded:
    @pytest.mark.parametrize(("effect", "n"), [(1.0, 10), (0.5, 34), (0.8, 15), (0.2, 199)])
    def test_gpower(self, effect: float, n: int) -> None:
        # G*Power 3.1, "Means: difference between two dependent means", two-sided, alpha 0.05, power 0.8
        assert stats.seeds_needed(effect * 0.02, 0.02) == n
        assert stats.seeds_needed(-effect * 0.02, 0.02) == n

    @settings(max_examples=20)
    @given(
        st.floats(0.2, 3),
        st.sampled_from([0.05, 0.01]),
        st.sampled_from([1, 10]),
        st.sampled_from([0.8, 0.9]),
    )
    def test_is_the_smallest_number(
        self, effect: float, alpha: float, comparisons: int, power: float
    ) -> None:
        def power_at(n: int) -> float:  # T = (Z + effect √n) / S, integrated over S = √(χ² / df)
            critical = scipy.stats.t.ppf(1 - alpha / comparisons / 2, n - 1)
            s = scipy.stats.chi(n - 1, scale=1 / math.sqrt(n - 1))
            return scipy.integrate.quad(
                lambda x: scipy.stats.norm.cdf(effect * math.sqrt(n) - critical * x) * s.pdf(x),
                *s.ppf([1e-9, 1 - 1e-9]),
            )[0]

        n = stats.seeds_needed(effect, 1, alpha, power, comparisons)
        assert power_at(n) >= power - 1e-6
        assert n == 2 or power_at(n - 1) < power + 1e-6

    def test_ends(self) -> None:
        assert stats.seeds_needed(0, 0.01) is None
        assert stats.seeds_needed(1e-9, 1) == stats.MAX_SEEDS
        assert stats.seeds_needed(1e300, 1e-300) == 2

    @pytest.mark.parametrize("comparisons", [1, 6, 1000])
    def test_without_spread_it_is_where_equal_differences_become_significant(self, comparisons: int) -> None:
        n = stats.seeds_needed(0.01, 0, num_comparisons=comparisons)
        p_values = [stats.paired_comparison([0.5 + 0.01] * m, [0.5] * m).p_value for m in (n - 1, n)]
        assert p_values[1] <= 0.05 / comparisons < p_values[0]

    @pytest.mark.parametrize(
        ("mean", "std", "comparisons"), [(math.nan, 1, 1), (1, math.nan, 1), (1, -1, 1), (1, 1, 0)]
    )
    def test_refusals(self, mean: float, std: float, comparisons: int) -> None:
        with pytest.raises(InputError, match="planning"):
            stats.seeds_needed(mean, std, num_comparisons=comparisons)


class TestVarianceComponents:
    def test_by_hand(self) -> None:
        # rows 1 3 5 and 4 6 11: mean 5, row means 3 and 7, column means 2.5, 4.5 and 8; by sums of squares,
        # rows 24 / 1, columns 31 / 2, residual 3 / 2 (its cells are ±0.5, ±0.5 and ∓1)
        values = {("a", 0): 1, ("a", 1): 3, ("a", 2): 5, ("b", 0): 4, ("b", 1): 6, ("b", 2): 11}
        row, column, residual = stats.variance_components(values, ["row", "column"])
        assert (row.source, row.df, column.df, residual.df) == ("row", 1, 2, 2)
        assert residual.variance == pytest.approx(1.5)
        assert row.variance == pytest.approx((24 - 1.5) / 3)
        assert column.variance == pytest.approx((15.5 - 1.5) / 2)
        assert sum(each.share for each in (row, column, residual)) == pytest.approx(1)
        assert row.std == pytest.approx(math.sqrt(7.5))
        low, high = stats.std_bounds(math.sqrt(1.5), 3)
        assert (residual.low, residual.high) == pytest.approx((low**2, high**2))
        assert column.low < column.variance < column.high

    def test_a_source_that_adds_nothing_has_0(self) -> None:
        values = {(i, j): float((i + j) % 2) for i in range(4) for j in range(4)}
        first, second, residual = stats.variance_components(values, ["i", "j"])
        assert first.variance == second.variance == first.low == 0
        assert residual.share == 1
        mean = stats.crossed_mean(values, ["i", "j"])  # 16 independent values, as far as the data show
        half = scipy.stats.t.ppf(0.975, 9) * math.sqrt(residual.variance / 16)
        assert (mean.low, mean.high) == pytest.approx((0.5 - half, 0.5 + half))

    @pytest.mark.parametrize("values", [{(0, 0): 1.0, (1, 1): 2.0}, {(0, 0): 1.0, (0, 1): 2.0}, {}])
    def test_refuses_a_design_that_is_not_crossed(self, values) -> None:
        with pytest.raises(InputError, match="every combination"):
            stats.variance_components(values, ["a", "b"])

    @pytest.mark.parametrize("rows", [3, 5])
    @pytest.mark.parametrize("stds", [(2.0, 1.0, 1.0), (0.5, 0.5, 1.0)])
    def test_the_mean_of_crossed_values_is_covered(self, stds: tuple[float, float, float], rows: int) -> None:
        draw, covered, naive, num_studies = np.random.default_rng(1), 0, 0, 400
        for study in range(num_studies):
            a, b, e = (
                draw.normal(0, std, size) for std, size in zip(stds, (rows, 6, (rows, 6)), strict=True)
            )
            values = {(i, j): a[i] + b[j] + e[i, j] for i in range(rows) for j in range(6)}
            found, other = stats.crossed_mean(values, ["a", "b"]), stats.mean_interval(values.values())
            covered += found.low <= 0 <= found.high
            naive += other.low <= 0 <= other.high
            if study < 20:
                alone = [a + b.mean() + e.mean(1), b + a.mean() + e.mean(0)]
                *effects, _ = stats.variance_components(values, ["a", "b"])
                for each, effect in zip(map(stats.mean_interval, alone), effects, strict=True):
                    assert found.high - found.low >= each.high - each.low - 1e-9 or effect.variance == 0
        assert covered / num_studies >= 0.94
        assert naive / num_studies < 0.85, "values that share a level are not independent"

    def test_differences_of_crossed_seeds_are_not_independent(self) -> None:
        draw, found, naive, num_studies = np.random.default_rng(2), 0, 0, 200
        for _ in range(num_studies):
            a, b, e = (draw.normal(0, 1, size) for size in (3, 4, (3, 4)))
            first = {(i, -1, j, j): a[i] + b[j] + e[i, j] for i in range(3) for j in range(4)}
            second = dict.fromkeys(first, 0.0)
            compared = stats.compare_groups(first, second)
            low, high = compared.difference.low, compared.difference.high
            assert (compared.p_value <= 0.05) == (not low <= 0 <= high)
            found += compared.p_value <= 0.05
            naive += stats.paired_comparison(first.values(), second.values()).p_value <= 0.05
        assert (compared.test, compared.n, compared.is_paired) == ("crossed t", 12, True)
        assert found / num_studies <= 0.06
        assert naive / num_studies >= 0.15
        confidence = 1 - compared.p_value
        edge = stats.compare_groups(first, second, confidence).difference
        assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-6)
        assert stats.compare_groups(first, first).p_value == 1
        assert stats.compare_groups(first, second, overlap=0.2).test == "corrected t"

    @pytest.mark.parametrize(
        ("keys", "places"),
        [
            ([(0, 0), (0, 1), (1, 0), (1, 1)], (0, 1)),
            ([(0, 0), (1, 1), (2, 2)], ()),
            ([(0, 0), (0, 1), (1, 0)], ()),
            ([(i, 7, i, j) for i in range(2) for j in range(3)], (0, 3)),
            ([0, 1, 2], ()),
            ([], ()),
        ],
    )
    def test_which_seeds_are_crossed(self, keys: list[Any], places: tuple[int, ...]) -> None:
        assert crossed_sources(keys) == places

    @pytest.mark.slow
    @pytest.mark.parametrize("stds", [(2.0, 1.0, 1.0), (0.3, 0.0, 1.0)])
    def test_the_intervals_cover(self, stds: tuple[float, float, float]) -> None:
        draw, hits, num_studies = np.random.default_rng(0), np.zeros(3), 2000
        for _ in range(num_studies):
            a, b, e = (draw.normal(0, std, size) for std, size in zip(stds, (6, 4, (6, 4)), strict=True))
            values = {(i, j): a[i] + b[j] + e[i, j] for i in range(6) for j in range(4)}
            found = stats.variance_components(values, ["a", "b"])
            hits += [c.low <= std**2 <= c.high for c, std in zip(found, stds, strict=True)]
        assert hits.min() / num_studies >= 0.93


class TestImagesComponent:
    def test_by_hand(self) -> None:
        # of two networks, both are right on three images of four: shares 0, 1, 1, 1 with a variance of 1/4, no chance
        found = stats.images_component([1, 0, 3])
        assert found.source == "test_images"
        assert (found.variance, found.df) == (pytest.approx(1 / 16), 3)
        # shares 0, 1/2, 1/2, 1 with a variance of 1/6, of which mean(0, 1/4, 1/4, 0) = 1/8 is chance
        assert stats.images_component([1, 2, 1]).variance == pytest.approx((1 / 6 - 1 / 8) / 4)

    def test_images_that_are_equally_hard_add_nothing(self) -> None:
        counts = scipy.stats.binom(10, 0.9).pmf(range(11)) * 5000
        found = stats.images_component([round(count) for count in counts])
        assert found.low == 0
        assert found.high < 0.1 * 0.9 * 0.1 / 5000, "far below the binomial variance"

    @pytest.mark.parametrize("right", [[5], [1, 2], [1, 0, 0], [3, -1, 2]])
    def test_refusals(self, right: list[int]) -> None:
        with pytest.raises(InputError, match="two networks and two images"):
            stats.images_component(right)

    @pytest.mark.slow
    def test_the_interval_covers(self) -> None:
        draw, hits, num_studies = np.random.default_rng(0), 0, 400
        true = scipy.stats.beta(9, 1).var() / 1000
        for _ in range(num_studies):
            right = draw.binomial(12, draw.beta(9, 1, 1000))
            found = stats.images_component(np.bincount(right, minlength=13).tolist())
            hits += found.low <= true <= found.high
        assert 0.92 <= hits / num_studies <= 0.98


class TestTasks:
    # Demšar (2006), table 6: AUC of four versions of C4.5 on 14 data sets. Two AUC of "voting" are equal when rounded;
    # the last digit is added so that the ranks are the published ones.
    AUC = (
        "0.763 0.768 0.771 0.798", "0.599 0.591 0.590 0.569", "0.954 0.971 0.968 0.967", "0.628 0.661 0.654 0.657",
        "0.882 0.888 0.886 0.898", "0.936 0.931 0.916 0.931", "0.661 0.668 0.609 0.685", "0.583 0.583 0.563 0.625",
        "0.775 0.838 0.866 0.875", "1.000 1.000 1.000 1.000", "0.940 0.962 0.965 0.962", "0.619 0.666 0.614 0.669",
        "0.972 0.981 0.9751 0.975", "0.957 0.978 0.946 0.970",
    )  # fmt: skip
    METHODS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")

    def scores(self) -> dict[str, dict[str, list[float]]]:
        return {
            method: {f"task {j}": [float(row.split()[i])] for j, row in enumerate(self.AUC)}
            for i, method in enumerate(self.METHODS)
        }

    def test_where_all_tasks_agree_the_p_value_is_that_of_all_rankings(self):
        scores = {
            name: {task: [base + 0.1 * task] for task in range(3)} for name, base in (("a", 1), ("b", 2))
        }
        assert stats.mean_ranks(scores).p_value == pytest.approx(1 / 4)

    def test_demsar(self) -> None:
        found = stats.mean_ranks(self.scores())
        ranks = [found.ranks[name].estimate for name in self.METHODS]
        assert ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
        assert found.p_value == pytest.approx(scipy.stats.f.sf(3.69, 3, 39), rel=0.01)
        assert found.critical_difference == pytest.approx(1.25, abs=0.005)
        assert next(iter(found.ranks)) == "C4.5+m+cf"
        assert not found.differ("C4.5", "C4.5+m+cf"), "1.18, as the paper says"
        assert stats.mean_ranks(self.scores(), alpha=0.10).differ("C4.5", "C4.5+m+cf")

    def test_dolan_and_more_by_hand(self) -> None:
        costs = {"a": {"x": [1.0], "y": [4.0]}, "b": {"x": [3.0], "y": [2.0]}}
        found = stats.performance_profiles(costs, [1, 2, 3])
        assert found["a"].shares == (0.5, 1, 1)
        assert found["b"].shares == (0.5, 0.5, 1)
        assert found["a"].low == found["a"].high == found["a"].shares, "one replicate has no band"
        spread = {"a": {"x": [1.0, 1.2], "y": [1.0, 2.0]}, "b": {"x": [1.1, 1.15], "y": [2.0, 2.1]}}
        band = stats.performance_profiles(spread, [1.0])["a"]
        assert band.low[0] < band.high[0]

    def test_probability_of_improvement_by_hand(self) -> None:
        scores = {"a": {"x": [1, 2, 3], "y": [0, 0]}, "b": {"x": [2, 0], "y": [0, 1]}}
        # x: of 6 pairs, 1 < 2, 1 > 0, 2 = 2, 2 > 0, 3 > 2, 3 > 0; y: of 4 pairs, two ties and two defeats
        found = stats.probability_of_improvement(scores, "a", "b")
        assert found.estimate == pytest.approx((4.5 / 6 + 1 / 4) / 2)
        assert found.low < found.estimate < found.high
        back = stats.probability_of_improvement(scores, "b", "a")
        assert back.estimate == pytest.approx(1 - found.estimate)
        worse = stats.probability_of_improvement(scores, "a", "b", higher_is_better=False)
        assert worse.estimate == pytest.approx(1 - found.estimate)

    def test_bands_are_those_of_more_replicates_narrower(self) -> None:
        draw = np.random.default_rng(0)

        def width(n: int) -> float:
            scores = {m: {t: draw.normal(m == "a", 2, n) for t in "xyz"} for m in "ab"}
            found = stats.probability_of_improvement(scores, "a", "b")
            return found.high - found.low

        assert width(60) < width(6)

    @pytest.mark.parametrize(
        "scores", [{}, {"a": {"x": [1]}, "b": {"x": [1]}}, {"a": {"x": [1], "y": [1]}, "b": {"x": [1]}}]
    )
    def test_refuses_what_is_no_comparison_over_tasks(self, scores) -> None:
        with pytest.raises(InputError, match="two methods and two tasks"):
            stats.mean_ranks(scores)
        with pytest.raises(InputError, match="ascend"):
            stats.performance_profiles(self.scores(), [2, 1])


class TestSurvival:
    # Freireich et al. (1963), weeks of remission of leukaemia: 6-mercaptopurine and placebo
    DRUG = (
        *((t, True) for t in (6, 6, 6, 7, 10, 13, 16, 22, 23)),
        *((t, False) for t in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)),
    )
    PLACEBO = tuple(
        (t, True) for t in (1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)
    )

    def test_freireich_remission(self) -> None:
        # Kalbfleisch and Prentice (1980); R: survdiff gives 16.8 on 1 degree of freedom, survfit the medians
        assert stats.logrank_p(self.DRUG, self.PLACEBO) == pytest.approx(
            scipy.stats.chi2.sf(16.79294, 1), rel=1e-5
        )
        drug, placebo = stats.kaplan_meier(self.DRUG), stats.kaplan_meier(self.PLACEBO)
        assert drug.remaining == pytest.approx(
            (0.857143, 0.806723, 0.752941, 0.690196, 0.627451, 0.537815, 0.448179)
        )
        assert (drug.median, drug.low, drug.high) == (23, 13, math.inf)
        assert (placebo.median, placebo.low, placebo.high) == (8, 4, 11)
        assert (drug.num_events, drug.n) == (9, 21)

    def test_ends(self) -> None:
        never = stats.kaplan_meier([(9, False)] * 3)
        assert (never.median, never.low, never.high, never.num_events) == (math.inf, math.inf, math.inf, 0)
        assert stats.logrank_p([(9, False)], [(9, False)]) == 1
        with pytest.raises(InputError, match="survival"):
            stats.kaplan_meier([])


class TestRanks:
    def test_hollander_and_wolfe_depression(self) -> None:
        # Hollander and Wolfe (1973), pp. 29 and 35; R: wilcox.test(x, y, paired = TRUE, conf.int = TRUE)
        before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
        after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
        found = stats.signed_rank_comparison(before, after)
        assert found.p_value == pytest.approx(0.0390625)
        assert (found.difference.estimate, found.difference.low, found.difference.high) == pytest.approx(
            (0.46, 0.010, 0.786)
        )
        assert (found.test, found.is_paired, found.n) == ("signed-rank", True, 9)

    def test_hollander_and_wolfe_permeability(self) -> None:
        # Hollander and Wolfe (1973), p. 69; R: wilcox.test(x, y, conf.int = TRUE)
        x, y = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46], [1.15, 0.88, 0.90, 0.74, 1.21]
        found = stats.rank_sum_comparison(x, y)
        assert found.p_value == pytest.approx(0.2544, abs=5e-5)
        assert (found.difference.estimate, found.difference.low, found.difference.high) == pytest.approx(
            (0.305, -0.15, 0.76)
        )
        assert (found.test, found.is_paired, found.n) == ("rank-sum", False, 15)

    @settings(max_examples=6)
    @given(st.integers(6, 8), st.integers(6, 8), st.integers(0, 10_000), st.sampled_from([0.8, 0.95, 0.98]))
    def test_the_intervals_invert_the_tests(self, m: int, n: int, seed: int, confidence: float) -> None:
        draw = np.random.default_rng(seed)
        a, b, c = draw.normal(0.3, 1, m), draw.normal(size=m), draw.normal(size=n)
        for found, again in (
            (
                stats.signed_rank_comparison(a, b, confidence),
                lambda d: stats.signed_rank_comparison(a, b, null=d),
            ),
            (stats.rank_sum_comparison(a, c, confidence), lambda d: stats.rank_sum_comparison(a, c, null=d)),
        ):
            low, high = found.difference.low, found.difference.high
            if math.isnan(low):
                continue
            for bound, outward in ((low, -1), (high, 1)):
                assert again(bound + outward * 1e-9).p_value <= 1 - confidence + 1e-9
                assert again(bound - outward * 1e-9).p_value > 1 - confidence - 1e-9

    def test_few_pairs_have_no_interval_and_no_effect_size(self) -> None:
        found = stats.signed_rank_comparison([1, 2, 3, 4, 5], [0] * 5)
        assert (found.difference.estimate, found.p_value) == (3, 0.0625)
        assert math.isnan(found.difference.low)
        assert math.isnan(found.effect_size)
        assert stats.rank_sum_comparison([1.0], [1.0]).p_value == 1

    @pytest.mark.slow
    def test_ranks_keep_the_level_where_trials_collapse_and_means_do_not_say(self) -> None:
        """Two equal mixtures, 30 % of whose trials collapsed."""
        draw, wrong = np.random.default_rng(5), 0
        for _ in range(2000):
            a, b = (np.where(draw.random(12) < 0.3, 0.1, draw.normal(0.95, 0.01, 12)) for _ in range(2))
            wrong += stats.signed_rank_comparison(a, b).p_value <= 0.05
        assert wrong / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


class TestPower:
    @pytest.mark.parametrize(
        ("effect", "n", "power"), [(0.5, 34, 0.8077775), (0.5, 50, 0.9338976), (0.8, 15, 0.8213105)]
    )
    def test_gpower(self, effect: float, n: int, power: float) -> None:
        # G*Power 3.1, "Means: difference between two dependent means", post hoc, two-sided, alpha 0.05
        assert stats.power_of(n, effect * 3, 3) == pytest.approx(power, abs=1e-6)

    @settings(max_examples=20)
    @given(st.integers(2, 60), st.floats(0.01, 10), st.integers(1, 40))
    def test_the_smallest_difference_is_the_one_found_with_that_power(
        self, n: int, std: float, tests: int
    ) -> None:
        smallest = stats.smallest_difference(n, std, power=0.7, num_comparisons=tests)
        assert stats.power_of(n, smallest, std, num_comparisons=tests) == pytest.approx(0.7, abs=1e-6)

    def test_ends(self) -> None:
        assert stats.power_of(10, 0, 1) == stats.power_of(1, 5, 1) == 0
        assert (stats.power_of(5, 1, 0), stats.power_of(6, 1, 0)) == (0, 1), (
            "equal differences: 2^(1-n) ≤ 0.05"
        )
        assert stats.power_of(5, 1e9, 1e-9) == 1
        assert math.isnan(stats.smallest_difference(1, 0.5))
        assert stats.smallest_difference(5, 0.0) == 0


class TestSeedsRange:
    @settings(max_examples=30)
    @given(st.floats(-3, 3), st.integers(2, 60), st.floats(0.5, 0.99))
    def test_the_interval_of_an_effect_inverts_the_noncentral_t(
        self, effect: float, n: int, confidence: float
    ) -> None:
        low, high = stats.effect_interval(effect, n, confidence)
        assert low <= effect <= high or n < 5, "of few values, the noncentral t is skew"
        upper = scipy.stats.nct.sf(effect * math.sqrt(n), n - 1, low * math.sqrt(n))
        lower = scipy.stats.nct.cdf(effect * math.sqrt(n), n - 1, high * math.sqrt(n))
        assert (upper, lower) == pytest.approx(((1 - confidence) / 2,) * 2, abs=1e-6)

    def test_it_hides_nothing(self) -> None:
        mean, std, n = 0.55, 1.0, 20
        low, high = stats.seeds_range(mean, std, n, num_comparisons=10)
        bounds = stats.effect_interval(mean / std, n)
        assert (high, low) == tuple(stats.seeds_needed(bound, 1, num_comparisons=10) for bound in bounds)
        assert low < (stats.seeds_needed(mean, std, num_comparisons=10) or 0) < high
        assert stats.seeds_range(0.1, std, n)[1] is None, "the interval holds 0"
        assert stats.seeds_range(-mean, std, n, num_comparisons=10) == (low, high)

    def test_refusals(self) -> None:
        with pytest.raises(InputError, match="two seeds"):
            stats.effect_interval(1.0, 1)


class TestNull:
    @given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=12), st.floats(-5, 5))
    def test_the_p_value_of_another_difference_is_that_of_shifted_values(self, pairs, null: float) -> None:
        a, b = zip(*pairs, strict=True)
        assume(np.std([x - y for x, y in pairs]) > 0.1 and np.std(a) + np.std(b) > 0.1)
        paired = stats.paired_comparison(a, b, test="t", null=null)
        assert paired.p_value == pytest.approx(
            scipy.stats.ttest_1samp([x - y for x, y in pairs], null).pvalue, rel=1e-6
        )
        assert paired.difference == stats.paired_comparison(a, b, test="t").difference
        welch = stats.welch_comparison(a, b, null=null)
        shifted = scipy.stats.ttest_ind([x - null for x in a], b, equal_var=False)
        assert welch.p_value == pytest.approx(shifted.pvalue, rel=1e-6)

    def test_ranks(self) -> None:
        shifted = [a - b + 1.5 for a, b in zip(SLEEP_1, SLEEP_2, strict=True)]
        ranks = stats.paired_comparison(SLEEP_1, SLEEP_2, test="wilcoxon", null=-1.5)
        assert ranks.p_value == pytest.approx(scipy.stats.wilcoxon(shifted).pvalue)

    def test_the_signed_rank_test_is_exact_with_ties_and_zeros_too(self) -> None:
        few = [3, -1, 1, 0, 2, 2, -2, 4, 1, 1]
        found = stats.signed_rank_comparison(few, [0] * 10).p_value
        assert found == pytest.approx(scipy.stats.wilcoxon(few).pvalue), "scipy enumerates the signs"
        many = [3, -1, 1, 2, 2, -2, 4, 1, 1, -3, 2, 5, -1, 2, 1]
        ranks = scipy.stats.rankdata(np.abs(many))
        signs = 2 * (np.arange(2**15)[:, None] >> np.arange(15) & 1) - 1
        distances = np.abs(signs @ ranks)
        expected = np.mean(distances >= abs(np.sign(many) @ ranks))
        assert stats.signed_rank_comparison(many, [0] * 15).p_value == pytest.approx(expected, rel=1e-12)


class TestSequentialLevels:
    @pytest.mark.parametrize(
        ("spending", "boundaries"),
        [
            # Reboussin et al. (2000), ldbounds: five looks, alpha 0.05, two-sided
            ("obrien-fleming", (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
            ("pocock", (2.4380, 2.4268, 2.4101, 2.3966, 2.3859)),
        ],
    )
    def test_published_boundaries_of_many_values(self, spending, boundaries: tuple[float, ...]) -> None:
        levels = stats.sequential_levels([2000, 4000, 6000, 8000, 10_000], 0.05, spending)
        assert scipy.stats.norm.isf(np.array(levels) / 2) == pytest.approx(boundaries, abs=2e-3)

    @pytest.mark.parametrize("looks", [(2, 3), (3, 5), (4, 12)])
    def test_two_looks_err_together_at_the_nominal_rate(self, looks: tuple[int, int]) -> None:
        """By simulation: as many studies exceed one of the two bounds as may."""
        (n, total), alpha = looks, 0.1
        first, last = stats.sequential_levels(looks, alpha)
        assert first == pytest.approx(alpha * (n / total) ** 2)
        bounds = [scipy.stats.t.isf(level / 2, size - 1) for level, size in ((first, n), (last, total))]
        draw = np.random.default_rng(0).normal(size=(200_000, total))

        def exceeds(size: int, bound: float):
            part = draw[:, :size]
            return np.abs(part.mean(1)) * math.sqrt(size) > bound * part.std(1, ddof=1)

        both = exceeds(n, bounds[0]) | exceeds(total, bounds[1])
        assert both.mean() == pytest.approx(alpha, abs=4 * math.sqrt(alpha * (1 - alpha) / 200_000))

    def test_a_look_at_which_nothing_may_be_spent_finds_nothing(self) -> None:
        levels = stats.sequential_levels(range(2, 21, 2), 0.05, "obrien-fleming")
        assert 0 < levels[0] < 1e-11 < levels[-1]

    def test_one_look_has_it_all(self) -> None:
        assert stats.sequential_levels([7], 0.03) == pytest.approx((0.03,))

    @pytest.mark.parametrize("looks", [[], [1, 2], [3, 3], [5, 4]])
    def test_refuses_looks_that_do_not_grow(self, looks: list[int]) -> None:
        with pytest.raises(InputError, match="increase"):
            stats.sequential_levels(looks)

    def test_refuses_an_unknown_function(self) -> None:
        with pytest.raises(InputError, match="obrien-fleming"):
            stats.sequential_levels([2], spending="fleming")  # type: ignore[arg-type]

    @pytest.mark.slow
    @pytest.mark.parametrize("looks", [(2, 4, 6, 8, 10), (5, 10, 15, 20), (3, 30), (10, 20, 23)])
    @pytest.mark.parametrize("spending", ["power", "obrien-fleming", "pocock"])
    def test_twenty_thousand_studies_err_at_the_nominal_rate(self, looks: tuple[int, ...], spending) -> None:
        """Paired t tests of two models that do not differ; the rate is not only kept but used."""
        num_studies = 20_000
        values = np.random.default_rng(sum(looks)).normal(size=(num_studies, looks[-1]))
        wrong = np.zeros(num_studies, bool)
        for n, level in zip(looks, stats.sequential_levels(looks, 0.05, spending), strict=True):
            wrong |= scipy.stats.ttest_1samp(values[:, :n], 0, axis=1).pvalue <= level
        assert wrong.mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / num_studies))

    @pytest.mark.slow
    def test_holms_correction_at_a_looks_rate_keeps_it(self) -> None:
        """Three models, of which one pair, no pair or all pairs differ: any false difference at any look."""
        from dlbench.analysis.looks import alpha_of
        from dlbench.spec.looks import Look

        looks, num_studies, rng = (4, 8, 12), 20_000, np.random.default_rng(3)
        for effect in (0.0, 1.5):
            values = (
                rng.normal(size=(3, num_studies, looks[-1])) + effect * np.array([0, 0, 1])[:, None, None]
            )
            wrong = np.zeros(num_studies, bool)
            for number, n in enumerate(looks, start=1):
                p = np.array(
                    [
                        scipy.stats.ttest_rel(values[a, :, :n], values[b, :, :n], axis=1).pvalue
                        for a, b in ((0, 1), (0, 2), (1, 2))
                    ]
                )
                order = np.argsort(p, axis=0)
                adjusted = np.maximum.accumulate(np.take_along_axis(p, order, 0) * [[3], [2], [1]], axis=0)
                found = np.zeros_like(p, bool)
                np.put_along_axis(found, order, adjusted <= alpha_of(Look(number, looks), 3), 0)
                wrong |= found[0] | (found[1:].any(0) & (effect == 0))
            assert wrong.mean() <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / num_studies)
            assert wrong.mean() > 0.02


class TestSequentialAlpha:
    @given(st.integers(1, 50), st.floats(0.001, 0.5))
    def test_levels_grow_and_add_up_to_alpha(self, max_looks: int, alpha: float) -> None:
        levels = [stats.sequential_alpha(look, max_looks, alpha) for look in range(1, max_looks + 1)]
        assert sum(levels) == pytest.approx(alpha)
        assert levels == sorted(levels)
        assert levels[0] == pytest.approx(alpha / max_looks**2)

    @pytest.mark.parametrize("look", [0, 4])
    def test_refuses_looks_that_were_not_planned(self, look: int) -> None:
        with pytest.raises(InputError, match="look"):
            stats.sequential_alpha(look, 3)

    @pytest.mark.slow
    def test_looking_after_every_batch_keeps_the_error_rate(self) -> None:
        # four configurations that do not differ, looked at after 3, 6, 9, 12 and 15 seeds
        alpha, looks, num_studies, rng = 0.10, 5, 1500, np.random.default_rng(0)
        spent = naive = 0
        for _ in range(num_studies):
            values = rng.normal(size=(4, 15)) + rng.normal(size=15)  # seeds are shared, so they correlate
            smallest = [
                min(
                    p.p_adjusted
                    for p in stats.compare_all({str(i): dict(enumerate(v[:n])) for i, v in enumerate(values)})
                )
                for n in range(3, 16, 3)
            ]
            spent += any(
                p <= stats.sequential_alpha(k, looks, alpha) for k, p in enumerate(smallest, start=1)
            )
            naive += any(p <= alpha for p in smallest)
        error = 3 * math.sqrt(alpha * (1 - alpha) / num_studies)
        assert spent / num_studies <= alpha + error
        assert naive / num_studies > alpha + error, (
            "the simulation could not tell a valid rule from a wrong one"
        )


@pytest.mark.slow
def test_rank_ranges_hold_simultaneously() -> None:
    """All ranges contain the true ranks in at least 1 - alpha of studies with tied and distinct means."""
    alpha, num_studies, rng = 0.10, 1500, np.random.default_rng(1)
    means = {"a": 1.0, "b": 1.0, "c": 0.5, "d": 0.0}
    true = {"a": (1, 2), "b": (1, 2), "c": (3, 3), "d": (4, 4)}  # tied means may take either rank
    wrong = 0
    for _ in range(num_studies):
        groups = {name: dict(enumerate(rng.normal(mean, 0.4, size=6))) for name, mean in means.items()}
        entries = stats.ranking(groups, alpha=alpha).entries
        wrong += any(e.best_rank > true[e.name][0] or e.worst_rank < true[e.name][1] for e in entries)
    assert 0 < wrong / num_studies <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / num_studies)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=6), min_size=4, max_size=4))
def test_improvement_is_the_mean_u_statistic_over_tasks(values: list[list[float]]) -> None:
    a, b = dict(enumerate(values[:2])), dict(enumerate(values[2:]))
    tasks = {"a": {str(i): a[i] for i in a}, "b": {str(i): b[i] for i in b}}
    shares = [scipy.stats.mannwhitneyu(a[i], b[i]).statistic / (len(a[i]) * len(b[i])) for i in a]
    assert stats.probability_of_improvement(tasks, "a", "b").estimate == pytest.approx(np.mean(shares))


@pytest.mark.slow
@settings(max_examples=10)
@given(P_VALUES.filter(bool), st.floats(0.3, 2), st.integers(3, 40))
def test_statsmodels_agrees(p_values: list[float], effect: float, n: int) -> None:
    statsmodels = pytest.importorskip("statsmodels.stats.api", reason="the oracle is not installed")
    assert stats.holm(p_values) == pytest.approx(statsmodels.multipletests(p_values, method="holm")[1])
    found = statsmodels.TTestPower().power(effect, n, 0.025, alternative="larger")
    assert stats.power_of(n, effect, 1) == pytest.approx(found, abs=1e-6), "in the right direction"
    interval = stats.wilson_interval(n // 3, n)
    expected = statsmodels.proportion_confint(n // 3, n, method="wilson")
    assert (interval.low, interval.high) == pytest.approx(expected)


@pytest.mark.parametrize("by_ranks", [False, True])
def test_groups_are_paired_where_they_share_keys(by_ranks: bool) -> None:
    a, b = dict(enumerate(SLEEP_1)), dict(enumerate(SLEEP_2))
    paired = stats.compare_groups(a, {**b, 99: 3.0}, by_ranks=by_ranks)
    test = stats.signed_rank_comparison if by_ranks else stats.paired_comparison
    assert paired == test(SLEEP_1, SLEEP_2)
    others = {key + 100: value for key, value in b.items()}
    apart = stats.compare_groups(a, others, by_ranks=by_ranks)
    assert apart == (stats.rank_sum_comparison if by_ranks else stats.welch_comparison)(SLEEP_1, SLEEP_2)


def test_importing_is_free() -> None:
    code = "import sys, dlbench.stats; print([m for m in ('numpy', 'scipy', 'jax') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_values_of_folds_without_pairs_are_not_tested() -> None:
    a, b = (
        {(seed, 0): value for seed, value in enumerate(values)} for values in ([0.9, 0.8, 0.85], [0.5, 0.6])
    )
    b = {(9, *key): value for key, value in b.items()}
    found = stats.compare_groups(a, b, overlap=0.25)
    assert found.difference.estimate == pytest.approx(0.3)
    assert math.isnan(found.p_value)
    assert math.isnan(found.difference.low)
    assert stats.compare_groups(a, b).p_value < 0.05
