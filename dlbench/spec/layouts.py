"""Lay out a study by its design, from the values of its fields and what the design itself needs. No jax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dlbench.errors import Field, SpecError
from dlbench.spec import ablation, designs, search
from dlbench.spec.study import Design, StudySpec

#: What designs need beside fields of trials, by design: the keys of YAML files and the arguments of their functions.
OPTIONS: Mapping[Design, tuple[str, ...]] = {
    "ablation": ("without", "change", "factorial"),
    "search": ("space", "trials", *search.HOW, "confirm"),
    "comparison": ("tune", "tune_seeds", "space", *search.HOW),
}
_LAYOUTS: Mapping[Design, Callable[..., StudySpec]] = {
    "ablation": ablation.ablate,
    "search": search.search,
    "comparison": search.compare,
}


def lay_out(
    design: Design, axes: Mapping[str, Any], options: Mapping[str, Any], place: str | None = None
) -> StudySpec:
    """The study of a design.

    Args:
        design: the design.
        axes: the values of each field, as :func:`dlbench.spec.designs.expand` takes them.
        options: those of :data:`OPTIONS` that are given.
        place: where the values come from, to name in an error.

    Raises:
        SpecError: a value is impossible, or an option is of another design.
        UnknownNameError: an unknown name.
    """
    for name in options:
        if name not in OPTIONS.get(design, ()):
            raise SpecError(
                *(Field(name), f" has no effect in a study of the design {design}"),
                value=options[name],
                place=place,
                remedy="leave it out",
            )
    if design in _LAYOUTS:
        return _LAYOUTS[design](axes, **options, place=place)
    return designs.expand(axes, design, place)
