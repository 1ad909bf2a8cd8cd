"""Studies compared with each other: what differs between them, and tests of their configurations. No jax."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlbench.analysis.comparison import compared_metric, pair_record, reported_metric
from dlbench.analysis.configurations import Configuration, axes_of, configurations
from dlbench.analysis.failures import measured
from dlbench.analysis.looks import ALPHA
from dlbench.analysis.search import concluded
from dlbench.errors import InputError
from dlbench.records import canonical_json
from dlbench.spec.claims import key_of
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.metrics import metric_key
from dlbench.spec.naming import model_names
from dlbench.spec.trial import REPLICATES, TrialSpec
from dlbench.stats import PairwiseComparison, compare_all, holm
from dlbench.storage.results import StudyRecord, TrialResult

#: More pairs than this are refused: after the correction for their number, hardly any difference could be found.
MAX_PAIRS = 1000
#: What distinguishes environments, but is no cause of other bits.
_NOT_BITS = ("digest", "compilation_cache")


@dataclass(frozen=True)
class Source:
    """A study as it was stored.

    Attributes:
        result: its trials.
        manifest: the recorded manifest of the last command that trained it; empty if there is none.
    """

    result: StudyRecord
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.result.folder


@dataclass(frozen=True)
class Difference:
    """Something in which studies differ.

    Attributes:
        kind: "settings", "data", "environment" or "code".
        name: what it is, such as a field of :class:`~dlbench.TrialSpec` or a package.
        values: for each study the values that it has, in order of appearance.
    """

    kind: str
    name: str
    values: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class StudiesComparison:
    """Studies compared with each other.

    Attributes:
        names: the names of the studies.
        metric: the metric that is compared.
        differences: what differs between them.
        pairs: the tests of configurations of different studies, after Holm's correction over all of them.
        num_shared: trials that several of the studies hold a result of.
        num_changed: those of them whose results do not have the same bits everywhere.
        num_left_out: trials without a result.
    """

    names: tuple[str, ...]
    metric: str
    differences: tuple[Difference, ...]
    pairs: tuple[PairwiseComparison, ...]
    num_shared: int
    num_changed: int
    num_left_out: int

    @property
    def supported(self) -> list[PairwiseComparison]:
        """The differences that the data support, the smallest p-value first."""
        return sorted((pair for pair in self.pairs if pair.supported), key=lambda pair: pair.p_adjusted)

    def to_dict(self) -> dict[str, Any]:
        """A record of JSON values."""
        return {
            "studies": list(self.names),
            "metric": self.metric,
            "differences": [
                {
                    "kind": each.kind,
                    "name": each.name,
                    "values": dict(zip(self.names, map(list, each.values), strict=True)),
                }
                for each in self.differences
            ],
            "pairs": list(map(pair_record, self.pairs)),
            "num_shared": self.num_shared,
            "num_changed": self.num_changed,
            "num_left_out": self.num_left_out,
        }


def compare_studies(sources: Sequence[Source], metric: str | None = None) -> StudiesComparison:
    """Compare the configurations of studies, and find what differs between the studies.

    Two configurations of two studies are compared if they are trained on the same data set and agree in every field
    that takes the same values in both studies: networks with themselves if both studies train the same networks, each
    with each if they train others. Configurations with the same trials and the same bits, such as copies, are not
    compared. Values are paired where the seed, the data and the split agree. Trials that diverged or collapsed count as
    in the comparison of models.

    Args:
        sources: the studies.
        metric: the metric to compare, "test/accuracy" or ``test_accuracy``; by default the one by which each of the
            studies compares its configurations, or else the one that each reports.

    Raises:
        UnknownNameError: there is no such metric.
        InputError: there are fewer than two studies, or more than :data:`MAX_PAIRS` pairs; or the studies go by
            different metrics, and none is named; or the metric is a time.
    """
    if len(sources) < 2:
        raise InputError("a comparison across studies needs two studies or more", remedy="name another study")
    if metric and metric_named(metric).is_timing:
        raise InputError(
            f"{metric} depends on what else the machine did, so it is not compared across studies",
            field="metric",
            remedy="a benchmark measures times in turns",
        )
    trials = [trial for source in sources for trial in concluded(source.result)]
    metric = metric or _shared_metric(sources)
    metric_key(metric)
    names, axes = _names(sources), axes_of(trials)
    models = model_names(trial.model for trial in trials)
    groups = [
        [Configuration(g.spec, g.trials, models) for g in configurations(concluded(source.result))]
        for source in sources
    ]
    compared = [
        _test(a, b, f"{names[i]}: {a.label(axes)}", f"{names[j]}: {b.label(axes)}", metric)
        for i, j in itertools.combinations(range(len(sources)), 2)
        for a, b in _matched(groups[i], groups[j])
    ]
    pairs = [pair for pair in compared if pair is not None]
    adjusted = holm([1.0 if math.isnan(p := pair.comparison.p_value) else p for pair in pairs])
    shared, changed = _shared(sources)
    return StudiesComparison(
        names,
        metric,
        (*_settings(sources), *_data(sources), *_environment(sources), *_code(sources)),
        tuple(
            PairwiseComparison(pair.a, pair.b, pair.comparison, p, supported=p <= ALPHA)
            for pair, p in zip(pairs, adjusted, strict=True)
        ),
        shared,
        changed,
        sum(not trial.status.is_finished for trial in trials),
    )


def _shared_metric(sources: Sequence[Source]) -> str:
    """The metric by which the studies compare configurations, or that they report, if it is the same one for all."""
    names: dict[str, None] = {}
    for of in (compared_metric, reported_metric):
        names = dict.fromkeys(of(source.result.trials) for source in sources)
        if len(names) == 1:
            return next(iter(names))
    raise InputError(
        f"these studies go by different metrics: {', '.join(names)}",
        field="metric",
        remedy="name one of them",
    )


def _names(sources: Sequence[Source]) -> tuple[str, ...]:
    """The names of the folders, or their paths where two have one name."""
    times = Counter(source.folder.name for source in sources)
    return tuple(each.folder.name if times[each.folder.name] == 1 else str(each.folder) for each in sources)


def _matched(
    a: Sequence[Configuration], b: Sequence[Configuration]
) -> list[tuple[Configuration, Configuration]]:
    """The pairs that agree in every field whose values are the same in both studies."""
    fields = [name for name in TrialSpec.model_fields if name not in REPLICATES]
    values = [{name: {getattr(group.spec, name) for group in groups} for name in fields} for groups in (a, b)]
    common = [name for name in fields if values[0][name] == values[1][name]]

    def key(group: Configuration) -> tuple[Any, ...]:
        return tuple(getattr(group.spec, name) for name in common)

    others: dict[tuple[Any, ...], list[Configuration]] = {}
    for group in b:
        others.setdefault(key(group), []).append(group)
    if (number := sum(len(others.get(key(group), ())) for group in a)) > MAX_PAIRS:
        raise InputError(
            f"these studies have {number:,} pairs of configurations; at most {MAX_PAIRS:,} are compared",
            remedy="name studies with fewer configurations",
        )
    return [
        (group, other)
        for group in a
        for other in others.get(key(group), ())
        if _data_of(group) & _data_of(other) and _results_of(group) != _results_of(other)
    ]


def _results_of(group: Configuration) -> set[tuple[str, str | None]]:
    """What identifies the results of a configuration: ids and bits. With itself, a configuration is not compared."""
    return {(trial.id, trial.params_sha256) for trial in group.trials}


def _data_of(group: Configuration) -> set[str]:
    """What identifies the data set of a configuration: its name, and its contents."""
    return {group.spec.dataset.partition("@")[0], group.trials[0].trial.data_digest}


def _test(
    a: Configuration, b: Configuration, first: str, second: str, metric: str
) -> PairwiseComparison | None:
    """The test of two configurations; ``None`` if one has no value of the metric."""
    groups = {first: a, second: b}
    values = measured(groups, metric, _by_split)
    if len(values) < 2:
        return None
    mixtures = [label for label, group in groups.items() if group.is_mixture]
    return compare_all(values, overlap=max(a.overlap, b.overlap), mixtures=mixtures)[0]


def _by_split(trial: TrialResult) -> tuple[object, ...]:
    """What pairs trials: seeds, fold, data and split; without a recorded split, a trial is paired with none."""
    place = key_of(trial.trial.spec.model_copy(update={"split_seed": None}))
    return *place, trial.trial.data_digest, trial.split_digest or trial.trial.id


def _shared(sources: Sequence[Source]) -> tuple[int, int]:
    """How many trials several studies hold a result of, and how many of them differ in bits."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for source in sources:
        for trial in source.result:
            if trial.status.is_finished:
                found.setdefault(trial.id, []).append((trial.history_sha256, trial.params_sha256))
    shared = [bits for bits in found.values() if len(bits) > 1]
    return len(shared), sum(len(set(bits)) > 1 for bits in shared)


def _differing(kind: str, columns: Mapping[str, Sequence[Iterable[Any]]]) -> list[Difference]:
    """The entries whose values are not the same in all studies."""
    found = []
    for name, studies in columns.items():
        values = tuple(tuple({canonical_json(value): value for value in each}.values()) for each in studies)
        if len({frozenset(map(canonical_json, each)) for each in values}) > 1:
            found.append(Difference(kind, name, values))
    return found


def _settings(sources: Sequence[Source]) -> list[Difference]:
    specs = [[trial.trial.spec for trial in source.result] for source in sources]
    return _differing(
        "settings",
        {
            name: [dict.fromkeys(getattr(spec, name) for spec in each) for each in specs]
            for name in TrialSpec.model_fields
        },
    )


def _data(sources: Sequence[Source]) -> list[Difference]:
    def digests(source: Source) -> dict[str, None]:
        return dict.fromkeys(f"{t.dataset} {t.trial.data_digest[:12]}" for t in source.result)

    return _differing("data", {"digest": [digests(source) for source in sources]})


def _environment(sources: Sequence[Source]) -> list[Difference]:
    """The entries of the recorded environments; those that one study does not have are left out."""
    described = []
    for source in sources:
        known = source.result.environments
        used = dict.fromkeys(trial.environment or "" for trial in source.result if trial.status.is_finished)
        described.append([known.get(digest, {}) for digest in used])
    names = dict.fromkeys(name for each in described for one in each for name in one)
    return _differing(
        "environment",
        {
            name: [[one[name] for one in each] for each in described]
            for name in names
            if name not in _NOT_BITS and all(name in one for each in described for one in each)
        },
    )


def _code(sources: Sequence[Source]) -> list[Difference]:
    """The commit, the versions of packages, and the source of parts of the user's own."""
    commits = [source.manifest.get("git") or {} for source in sources]
    packages: list[Mapping[str, Any]] = [source.manifest.get("packages") or {} for source in sources]
    names = [name for name in packages[0] if all(name in each for each in packages)]
    columns: dict[str, list[Iterable[Any]]] = {
        "commit": [[each.get("commit")] for each in commits],
        "uncommitted changes": [[each.get("dirty")] for each in commits],
        "numerics": [dict.fromkeys(trial.trial.numerics for trial in each.result) for each in sources],
        **{name: [[each[name]] for each in packages] for name in names},
        "own parts": [dict.fromkeys(_own(each)) for each in sources],
    }
    return _differing("code", columns)


def _own(source: Source) -> Iterable[str]:
    for trial in source.result:
        if trial.trial.model_digest:
            yield f"{trial.model} {trial.trial.model_digest[:12]}"
        for part, digest in trial.trial.part_digests:
            yield f"{getattr(trial.trial.spec, part)} {digest[:12]}"
