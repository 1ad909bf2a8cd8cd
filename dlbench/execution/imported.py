"""Make sure that the code of users' parts in this process is what their trials were planned with."""

from __future__ import annotations

from dlbench.errors import InputError
from dlbench.spec.registry import Registry
from dlbench.spec.trial import PARTS, Trial

#: The digests of the sources of users' parts as this process has imported them, by reference.
_imported: dict[str, str] = {}


def check_sources(trial: Trial) -> None:
    """Import the parts of a trial that are the user's, and compare them with what the trial was planned with.

    Raises:
        InputError: the source of a part has changed, or this process has imported it before it changed.
    """
    planned = {"model": trial.model_digest, **dict(trial.part_digests)}
    for field, registry in PARTS.items():
        reference = getattr(trial.spec, field)
        if registry.users(reference):
            _check(registry, reference, planned.get(field, ""))


def _check(registry: Registry, reference: str, planned: str) -> None:
    if reference not in _imported:
        before = registry.source_digest(reference)
        for piece in registry.pieces(reference):
            registry.load(piece)
        found = registry.source_digest(reference)
        if {before, found} != {planned}:
            raise InputError(
                f"the source of {registry.kind} {reference!r} has changed: its digest is {found[:12]}, the trial was "
                f"planned with {planned[:12]}",
                remedy="plan the study again",
            )
        _imported[reference] = found
    if _imported[reference] != planned:
        raise InputError(
            f"this process has imported {registry.kind} {reference!r} before its source was changed: it holds "
            f"{_imported[reference][:12]}, the trial was planned with {planned[:12]}",
            remedy="start Python again, or train in worker processes",
        )
