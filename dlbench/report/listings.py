"""Lists: all values of trials, plans, studies, data sets, the machine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dlbench.analysis.configurations import Summary, axes_of_specs
from dlbench.analysis.looks import alpha_of
from dlbench.execution.costs import compile_s, cost_s
from dlbench.records import TrialStatus
from dlbench.report.search import search_in_words
from dlbench.report.tables import (
    Column,
    Made,
    Report,
    Table,
    count,
    duration,
    level,
    listed,
    means_note,
    plus_minus,
    thousands,
)
from dlbench.spec.looks import Look
from dlbench.spec.metrics import REPORT_METRIC, metric, title
from dlbench.spec.naming import field_title, model_names, phrase, setting
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import REPLICATES
from dlbench.storage.results import TrialResult

if TYPE_CHECKING:
    from datetime import datetime

    from dlbench.analysis.overview import Overview
    from dlbench.data import Available, DatasetInfo
    from dlbench.execution.plan import Plan
    from dlbench.storage.studies import StudySummary
    from dlbench.storage.upkeep import Garbage


def records_table(trials: Sequence[TrialResult]) -> Table:
    """All recorded values of all trials except their histories, one row per trial."""
    own = dict.fromkeys(
        key for trial in trials for key in trial.outcome.to_record()
    )  # metrics differ by trial
    keys = dict.fromkeys([*(trials[0].to_dict(history=False) if trials else ()), *own])

    def row(trial: TrialResult) -> tuple[Any, ...]:
        record = trial.to_dict(history=False)
        return tuple(record.get(key) for key in keys)

    return Table("", tuple(Column(key, key) for key in keys), Made(trials, row))


def plan_report(plan: Plan) -> Report:
    """The programs and trials of a plan, and the estimated time."""
    search = plan.study.search
    most = "At most " if plan.study.looks else ""
    workers = count(plan.workers, "worker") if plan.workers else "this process"
    return [
        _programs_table(plan),
        *([_looks_in_words(plan)] if plan.study.looks else []),
        *([search_in_words(plan, search)] if search else []),
        *plan.own_models,
        *plan.trained_again,
        *plan.copied,
        *plan.machines,
        f"{most}{count(len(plan.trials), 'trial')} in {count(len(plan.programs), 'program')}; {len(plan.done):,} done, "
        f"{len(plan.missing):,} to train: about {duration(plan.estimate_s)} on {plan.device} with {workers} "
        f"(estimated).\nNothing was written; the study's folder is {plan.folder}",
    ]


def _programs_table(plan: Plan) -> Table:
    """One row per program: what its trials have in common that others do not, and in what they differ."""
    axes = axes_of_specs([trial.spec for trial in plan.trials], without=())
    models = model_names(trial.spec.model for trial in plan.trials)
    rows = []
    for program in plan.programs:
        left = [trial for trial in program.trials if trial.id not in plan.done]
        values = {name: list(dict.fromkeys(getattr(t.spec, name) for t in program.trials)) for name in axes}
        shared = {name: found[0] for name, found in values.items() if len(found) == 1}
        label = ", ".join(phrase(name, value, models) for name, value in shared.items())
        varied = (_values(name, found, models) for name, found in values.items() if name not in shared)
        rows.append(
            (
                label or phrase("model", program.trials[0].spec.model, models),
                "; ".join(varied) or None,
                len(program.trials),
                len(program.trials) - len(left),
                sum(map(cost_s, left)) + (compile_s(left[0]) if left else 0.0),
            )
        )
    columns = (
        Column("program", "program", left=True),
        Column("varied", "its trials", left=True),
        Column("trials", "trials", thousands),
        Column("done", "done", thousands),
        Column("core_s", "left, on one core", duration),
    )
    return Table("Programs (trials that share one compilation)", columns, tuple(rows))


#: Values of a field that a plan lists; of more, it shows the number.
_LISTED = 5


def _values(name: str, values: Sequence[Any], models: Mapping[str, str]) -> str:
    """The values of a field: "lr 0.001, 0.01", or "lr (12)"."""
    if len(values) > _LISTED:
        return f"{field_title(name)} ({len(values)})"
    if name.endswith("_args"):
        return " or ".join(phrase(name, value, models) for value in values)
    if all(isinstance(value, int | float) for value in values):
        values = sorted(values)
    return f"{field_title(name)} {', '.join(setting(name, value, models) for value in values)}"


def _looks_in_words(plan: Plan) -> str:
    return f"{schedule_in_words(plan.study)}{'' if plan.missing else ' It has ended.'}"


def schedule_in_words(study: StudySpec) -> str:
    """The planned looks of a growing comparison, in words."""
    looks = study.looks
    configurations = {trial.model_copy(update=dict.fromkeys(REPLICATES, 0)) for trial in study.trials}
    sizes = Counter(configuration.dataset for configuration in configurations)
    num_pairs = sum(math.comb(size, 2) for size in sizes.values())
    where = " on each data set" if len(sizes) > 1 else ""
    levels = [level(alpha_of(Look(number, looks), num_pairs)) for number in range(1, len(looks) + 1)]
    return (
        f"{count(len(looks), 'look')} planned, after {listed(list(map(str, looks)))} seeds of each model, at the "
        f"{'levels' if len(looks) > 1 else 'level'} {listed(levels)}. The study ends at the first look "
        f"that finds one model significantly better than every other{where}."
    )


def plan_record(plan: Plan) -> dict[str, Any]:
    """A plan as a record for JSON."""
    return {
        "study": {
            "kind": plan.study.kind,
            "name": plan.folder.name,
            "folder": str(plan.folder),
            "looks": list(plan.study.looks),
            "num_trials": len(plan.trials),
            "num_done": len(plan.done),
            "num_superseded": len(plan.superseded),
            "num_copied": len(plan.sources),
            "num_continued": len(plan.shorter),
            "num_programs": len(plan.programs),
            "workers": plan.workers,
            "device": plan.device,
            "machines": list(plan.machines),
            "estimate_s": plan.estimate_s,
        },
        "trials": [
            {
                "id": trial.id,
                **trial.spec.to_record(),
                "lanes": trial.lanes,
                "program": number,
                "done": trial.id in plan.done,
                "superseded": trial.id in plan.superseded,
                "copied_from": str(plan.sources[trial.id][0]) if trial.id in plan.sources else None,
            }
            for number, program in enumerate(plan.programs)
            for trial in program.trials
        ],
    }


def studies_table(studies: Sequence[tuple[StudySummary, Overview | None]]) -> Table:
    """One row per study: what its best configuration reached on test images, its data, and what it varies."""
    reported = {found.metric for _, found in studies if found is not None and found.best}
    one = next(iter(reported)) if len(reported) == 1 else None
    columns = (
        Column("name", "study", left=True, whole=True),
        Column("best", "best", left=True),
        Column("result", title(one) if one else "result", partial(_result, named=one is None)),
        Column("datasets", "data set", left=True),
        Column("axes", "varied", left=True),
        Column("created_at", "created", lambda time: _local_time(time)[:10], left=True),
        Column("trials", "trials"),
    )
    rows: list[tuple[Any, ...]] = []
    for study, found in studies:
        total, complete = sum(study.counts.values()), study.counts.get(TrialStatus.COMPLETE, 0)
        if found is None:
            rows.append((study.name, "unreadable", *(None,) * 3, study.created_at, None))
            continue
        rows.append(
            (
                study.name,
                found.label or None,
                (summary, found.metric)
                if found.best and (summary := found.best.summary(found.metric))
                else None,
                listed([*found.datasets]),
                ", ".join(f"{field_title(name)} ({number})" for name, number in found.axes.items()) or None,
                study.created_at,
                str(total) if complete == total else f"{complete} of {total}",
            )
        )
    summaries = [row[2][0] for row in rows if row[2]]
    caption = (
        "Best: the configuration with the best metric on validation images (the accuracy, unless a study goes by "
        f"another), with the same metric on test images. {means_note(summaries)}"
        if summaries
        else ""
    )
    problems = [study.problem for study, _ in studies if study.problem]
    return Table("Studies", columns, tuple(rows), "\n".join(filter(None, [caption, *problems])))


def _result(value: tuple[Summary, str], named: bool) -> str:
    """97.40 ± 0.31; with the metric, test acc % 97.40 ± 0.31, where studies have different ones."""
    summary, name = value
    text = plus_minus(summary, metric(name))
    return f"{title(name)} {text}" if named else text


def studies_records(studies: Sequence[tuple[StudySummary, Overview | None]]) -> Table:
    """All that is known of each study without its trials, one row per study."""
    columns = (
        Column("name", "study", left=True),
        Column("kind", "kind", left=True),
        Column("created_at", "created", _local_time, left=True),
        Column("trials", "trials", thousands),
        *(Column(status.lower(), status.lower(), thousands) for status in TrialStatus),
        *(Column(name, name) for name in _FOUND),
    )
    rows = tuple(
        (
            study.name,
            study.kind,
            study.created_at,
            None if study.problem else sum(study.counts.values()),
            *(study.counts.get(status) for status in TrialStatus),
            *(_found(found) if found else (None,) * len(_FOUND)),
        )
        for study, found in studies
    )
    return Table("Studies", columns, rows)


#: What is known of a study's results.
_FOUND = (
    "datasets",
    "axes",
    "best",
    "best_val_accuracy",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "num_seeds",
    "metric",
    "result",
    "result_low",
    "result_high",
)


def _found(overview: Overview) -> tuple[Any, ...]:
    """The values of :data:`_FOUND`; the intervals are those over seeds, where there are enough of them."""
    names, best = ([*overview.datasets], dict(overview.axes)), overview.best
    if best is None:
        return (*names, *(None,) * (len(_FOUND) - len(names)))
    accuracy, result = (_bounds(best.summary(name)) for name in (REPORT_METRIC, overview.metric))
    validated = best.mean("val/accuracy")
    return (*names, overview.label, validated, *accuracy, len(best.complete), overview.metric, *result)


def _bounds(summary: Summary | None) -> tuple[float | None, float | None, float | None]:
    """The mean and the bounds of its interval, as far as they are known."""
    if summary is None:
        return None, None, None
    interval = summary.interval
    bounds = (interval.low, interval.high) if summary.has_interval else (None, None)
    return interval.estimate, *bounds


def _local_time(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def garbage_table(found: Sequence[Garbage]) -> Table:
    """What can be removed from studies, and the space that it takes."""
    columns = (
        Column("name", "study", left=True, whole=True),
        Column("what", "what", left=True),
        Column("files", "files and folders", thousands),
        Column("bytes", "MB", lambda size: f"{size / 1e6:.1f}"),
    )
    rows = tuple((each.folder.name, each.what, len(each.paths), each.num_bytes) for each in found)
    return Table("To be removed", columns, rows)


def datasets_table(datasets: Sequence[Available]) -> Table:
    """One row per data set."""
    columns = (
        Column("name", "name", left=True),
        Column("description", "description", left=True),
        Column("prepared", "prepared", lambda prepared: "yes" if prepared else "no", left=True),
        Column("how", "from", left=True),
    )
    rows = tuple((d.name, d.description, d.prepared, d.how) for d in datasets)
    return Table("Data sets", columns, rows)


def data_report(info: DatasetInfo) -> Report:
    """The images and classes of a data set."""
    height, width, channels = info.image_shape
    facts = (
        ("images", f"{info.num_train:,} for training, {info.num_test:,} for testing"),
        ("shape", f"{height}x{width}x{channels}"),
        ("targets", info.targets),
        *([("slices", ", ".join(info.slices))] if info.slices else []),
        ("source", info.source),
        ("digest", info.digest),
        ("cache", str(info.path or "not written")),
    )
    halves = info.class_counts
    names = info.class_names or tuple(map(str, range(len(halves["train"]))))
    rows = tuple(zip(range(len(names)), names, halves["train"], halves["test"], strict=True))
    classes = (
        Column("label", "label"),
        Column("name", "class", left=True),
        Column("train", "training", thousands),
        Column("test", "test", thousands),
    )
    return [facts_table(info.reference, facts), *([Table("Classes", classes, rows)] if rows else [])]


def info_report(record: Mapping[str, Any]) -> Report:
    """Versions, devices and caches.

    Args:
        record: the environment as :mod:`dlbench.storage.manifest` records it, with the devices that jax finds and
            the folders of the caches.
    """
    jax = record["jax"]
    machine = (
        ("python", record["python"]),
        ("system", record["os"]),
        ("processor", record["cpu"].get("model name", record["machine"])),
        ("cores", record["cores"]),
        ("backend", jax["backend"]),
        ("devices", ", ".join(jax["devices"])),
        *([("kernels", jax["kernels"] or "none: no C compiler")] if jax["backend"] == "cpu" else []),
        *([("convolutions of all models", jax["convolutions"])] if jax["convolutions"] else []),
    )
    caches = tuple((cache["folder"], cache["bytes"]) for cache in record["caches"])
    sizes = (Column("folder", "cache", left=True), Column("bytes", "MB", lambda size: f"{size / 1e6:.1f}"))
    return [
        facts_table("Machine", machine),
        facts_table("Packages", tuple(record["packages"].items())),
        Table("Caches", sizes, caches),
    ]


def origin(manifest: Mapping[str, Any]) -> str:
    """The machine and the versions that a study ran on, in a sentence; "" if they were not recorded."""
    cpu, packages = manifest.get("cpu", {}), manifest.get("packages", {})
    if not cpu or not packages:
        return ""
    numbers = ", ".join(
        f"{name.removeprefix('cpu ')} {cpu[name]}" for name in ("cpu family", "model") if name in cpu
    )
    device = manifest.get("device", {})
    versions = [
        f"Python {manifest.get('python')}",
        *(f"{name} {packages[name]}" for name in _SHOWN if name in packages),
    ]
    commit = (manifest.get("git") or {}).get("commit")
    workers, spent = manifest.get("workers", 0), sum(manifest.get("times", {}).values())
    wall = f", in {duration(spent / max(workers, 1))}" if spent else ""
    return (
        f"Trained on {count(manifest.get('cores', 0), 'core')} of {cpu.get('model name', 'a processor')} ({numbers}), "
        f"device {', '.join(device.get('devices', ['unknown']))}, with {count(workers, 'worker')}{wall}; "
        f"{', '.join(versions)}{f'; commit {commit[:12]}' if commit else ''}."
    )


#: Packages that the sentence names; the manifest has all of them.
_SHOWN = ("dlbench", "jax", "flax", "optax", "numpy")


def facts_table(title: str, facts: tuple[tuple[str, Any], ...]) -> Table:
    """A table of names and values, without headings."""
    return Table(title, (Column("name", "", left=True), Column("value", "", left=True)), facts)
