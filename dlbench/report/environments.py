"""Results of different environments side by side, in words: what could make their bits differ. No jax."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dlbench.execution import environment
from dlbench.records import canonical_json
from dlbench.report.tables import Points, Report, count, listed
from dlbench.storage.results import StudyRecord, TrialResult


def mixed_trials(result: StudyRecord) -> Report:
    """Says that the trials of a study come from several environments; empty if they come from one."""
    found = Counter(trial.environment for trial in result.complete)
    if len(found) < 2:
        return []
    sources = [
        (count(number, "trial"), result.environments.get(digest or "", {"digest": digest}))
        for digest, number in found.items()
    ]
    lead = f"These trials come from {len(found)} environments, between which bits can differ:"
    return [Points(lead, tuple(_differing(sources)))]


def superseded_trials(result: StudyRecord) -> Report:
    """How many earlier results are kept of trials that were trained again; empty if there are none."""
    if not result.superseded:
        return []
    are = "is" if len(result.superseded) == 1 else "are"
    return [
        f"{count(len(result.superseded), 'earlier result')} of other environments {are} kept, but not shown: these "
        "trials were trained again."
    ]


def copied_trials(trials: Sequence[TrialResult]) -> Report:
    """How many results come from other studies, in which their times were measured; empty if there are none."""
    found = Counter(trial.origin for trial in trials if trial.origin)
    return [
        f"{count(number, 'trial')} {'was' if number == 1 else 'were'} copied from the study {origin}: "
        f"{'its' if number == 1 else 'their'} times were measured there."
        for origin, number in found.items()
    ]


def mixed_studies(manifests: Sequence[tuple[str, Mapping[str, Any]]]) -> Report:
    """Says that studies come from different environments; empty if they come from one.

    Args:
        manifests: the title of each study, and its recorded environment.
    """
    sources = [(title, _described(manifest)) for title, manifest in manifests]
    differing = _differing(sources) if sources else []
    if not differing:
        return []
    lead = (
        "These studies were trained in different environments, so equal trials can have different bits, and small "
        "differences between studies may come from there:"
    )
    return [Points(lead, tuple(differing))]


def _described(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The environment in a manifest; early ones have the processor and jaxlib in another place."""
    early = {
        "processor": environment.processor_name(str(manifest.get("machine", "")), manifest.get("cpu") or {}),
        "jaxlib": (manifest.get("packages") or {}).get("jaxlib"),
    }
    return early | dict(manifest.get("device") or {})


def _differing(sources: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The parts in which environments differ, with their values and the names of the sources; empty if there are none.

    Parts that are not recorded everywhere are left out. If no other part differs, the digests are compared.
    """
    parts = [environment.changing_bits(described) for _, described in sources]
    shared = [name for name in parts[0] if all(name in described for _, described in sources)]
    differ = [name for name in shared if len({canonical_json(each[name]) for each in parts}) > 1]
    groups: dict[str, list[str]] = {}
    for (source, described), values in zip(sources, parts, strict=True):
        words = ", ".join(f"{name} {values[name] or 'none'}" for name in differ)
        groups.setdefault(words or f"environment {described.get('digest') or 'not recorded'}", []).append(
            source
        )
    if len(groups) < 2:
        return []
    return [f"{listed(names)}: {words}" for words, names in groups.items()]
