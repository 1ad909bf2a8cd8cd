"""The number of seeds that would separate configurations, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dlbench.analysis.outlook import SeedCount, SeedsNeeded
from dlbench.stats import MAX_SEEDS


def seeds_in_words(
    needed: Sequence[SeedsNeeded],
    names: Mapping[str, str] | None = None,
    shown: Callable[[float], str] | None = None,
) -> str:
    """The seeds needed, in a sentence or two; "" if there are none to name.

    Args:
        needed: the pairs and their numbers of seeds.
        names: what to call a group, if not by its name.
        shown: formats a difference in the unit of the metric; without it, the power at hand is not said.
    """
    if not needed:
        return ""
    names = names or {}
    clauses = []
    for each in needed:
        first, other = names.get(each.first, each.first), names.get(each.other, each.other)
        if each.num_seeds is None:
            clauses.append(f"no number separates {first} from {other}, because their means are equal")
        else:
            clauses.append(f"{count_in_words(each)} to separate {first} from {other}")
    smallest = max(each.detectable for each in needed)
    found = (
        f" The seeds at hand find a difference of {shown(smallest)} with a power of 80 %." if shown else ""
    )
    return (
        f"Seeds that would probably be enough: {'; '.join(clauses)}. The estimate is based on the difference at hand "
        "(power 80 %; in brackets, the range that its 95 % interval allows) and is optimistic, because differences "
        f"that look large tend to shrink.{found}"
    )


def count_in_words(seeds: SeedCount) -> str:
    """about 99 (31 to 1,000 or more), about 112 (32 or more)."""
    if seeds.num_seeds is None:
        return "no number"
    about = f"{MAX_SEEDS:,} or more" if seeds.num_seeds >= MAX_SEEDS else f"about {seeds.num_seeds}"
    if seeds.low >= MAX_SEEDS:
        return about
    if seeds.high is None:
        return f"{about} ({seeds.low} or more)"
    most = f"{MAX_SEEDS:,} or more" if seeds.high >= MAX_SEEDS else str(seeds.high)
    return f"{about} ({seeds.low} to {most})"
