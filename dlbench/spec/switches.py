"""The argument of a model that tells training from evaluation, however it is spelt. No jax."""

from __future__ import annotations

from collections.abc import Iterable

#: Spelling → its value in training; in evaluation it is the other.
SPELLINGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
    "eval": False,
    "inference": False,
}


def arguments(parameters: Iterable[str], training: bool) -> dict[str, bool]:
    """What to call a model with, so that it trains or evaluates.

    Args:
        parameters: the names of the arguments that it takes.
        training: which of the two.

    Returns:
        A value for every argument that is such a switch; nothing where there is none.
    """
    return {name: SPELLINGS[name] is training for name in parameters if name in SPELLINGS}


def in_words(parameters: Iterable[str]) -> str:
    """What a model with these arguments is called with, as a plan says it."""
    given = arguments(parameters, True)
    listed = ", ".join(f"{name}={value}" for name, value in given.items())
    opposite = ", ".join(f"{name}={not value}" for name, value in given.items())
    if not given:
        return "called alike in training and evaluation"
    return f"called with {listed} in training and {opposite} in evaluation"
