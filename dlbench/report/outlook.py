"""How many seeds would probably settle what a comparison leaves open, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dlbench.stats import MAX_SEEDS, PairwiseComparison, Ranking, seeds_needed


def seeds_to_settle(
    ranked: Ranking, first: str, others: Sequence[str], names: Mapping[str, str] | None = None
) -> str:
    """A sentence about the pairs of the first with others that the data do not tell apart; "" if there is none.

    Args:
        ranked: the ranking, with its comparisons and their level.
        first: a group.
        others: those to tell it from.
        names: what groups are called, where that is not their key.
    """
    needed, called = [], names or {}
    for other in others:
        pair = next(pair for pair in ranked.comparisons if {pair.a, pair.b} == {first, other})
        difference = pair.comparison.difference
        std = difference.std * (math.sqrt(2) if is_unpaired(pair) else 1)  # of differences, were they paired
        if pair.supported or math.isnan(std):
            continue
        seeds = seeds_needed(difference.estimate, std, ranked.alpha, num_comparisons=len(ranked.comparisons))
        both = called.get(first, first), called.get(other, other)
        if seeds is None:
            needed.append(f"no number tells {both[0]} from {both[1]}, equal on average")
        else:
            amount = f"{MAX_SEEDS:,} or more" if seeds >= MAX_SEEDS else f"about {seeds}"
            needed.append(f"{amount} to tell {both[0]} from {both[1]}")
    if not needed:
        return ""
    return (
        f"Seeds that would probably settle it: {'; '.join(needed)}. That is estimated from these few seeds "
        "(power 80 %), and optimistic: differences that look large tend to shrink."
    )


def is_unpaired(pair: PairwiseComparison) -> bool:
    """Whether the two shared too few seeds to be compared seed by seed."""
    return pair.comparison.test == "welch"
