"""The number of seeds that would separate configurations, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlbench.analysis.outlook import SeedsNeeded
from dlbench.stats import MAX_SEEDS


def seeds_in_words(needed: Sequence[SeedsNeeded], names: Mapping[str, str] | None = None) -> str:
    """The seeds needed, in a sentence or two; "" if there are none to name.

    Args:
        needed: the pairs and their numbers of seeds.
        names: what to call a group, if not by its name.
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
            amount = f"{MAX_SEEDS:,} or more" if each.num_seeds >= MAX_SEEDS else f"about {each.num_seeds}"
            clauses.append(f"{amount} to separate {first} from {other}")
    return (
        f"Seeds that would probably be enough: {'; '.join(clauses)}. The estimate is based on the seeds at hand "
        "(power 80 %) and is optimistic, because differences that look large tend to shrink."
    )
