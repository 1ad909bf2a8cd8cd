"""Lists: all values of trials, plans, studies, data sets, the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlbench.analysis.looks import alpha_of
from dlbench.execution.costs import COMPILE_S, cost_s
from dlbench.records import TrialStatus
from dlbench.report.tables import Column, Made, Report, Table, count, duration, level, listed, thousands
from dlbench.spec.looks import Look
from dlbench.spec.naming import model_names, phrase
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import STATIC_FIELDS
from dlbench.storage.results import TrialResult

if TYPE_CHECKING:
    from datetime import datetime

    from dlbench.data import Available, DatasetInfo
    from dlbench.execution.plan import Plan
    from dlbench.storage.studies import StudySummary


def records_table(trials: Sequence[TrialResult]) -> Table:
    """All recorded values of all trials except their histories, one row per trial."""
    columns = tuple(Column(key, key) for key in (trials[0].to_dict(history=False) if trials else ()))
    return Table("", columns, Made(trials, lambda trial: tuple(trial.to_dict(history=False).values())))


def plan_report(plan: Plan) -> Report:
    """The programs and trials of a plan, and the estimated time."""
    programs = plan.programs
    varied = [name for name in STATIC_FIELDS if len({getattr(t.spec, name) for t in plan.trials}) > 1]
    columns = (
        Column("program", "program", left=True),
        Column("trials", "trials", thousands),
        Column("done", "done", thousands),
        Column("core_s", "left, on one core", duration),
    )
    models = model_names(trial.spec.model for trial in plan.trials)
    rows = []
    for program in programs:
        spec = program.trials[0].spec
        left = [trial for trial in program.trials if trial.id not in plan.done]
        label = ", ".join(phrase(name, getattr(spec, name), models) for name in varied or ("model",))
        core_s = sum(map(cost_s, left)) + (COMPILE_S if left else 0.0)
        rows.append((label, len(program.trials), len(program.trials) - len(left), core_s))
    most = "At most " if plan.study.looks else ""
    workers = count(plan.workers, "worker") if plan.workers else "this process"
    return [
        Table("Programs (trials that share one compilation)", columns, tuple(rows)),
        *([schedule_in_words(plan.study)] if plan.study.looks else []),
        *plan.own_models,
        *plan.trained_again,
        f"{most}{count(len(plan.trials), 'trial')} in {count(len(programs), 'program')}; {len(plan.done):,} done, "
        f"{len(plan.missing):,} to train: about {duration(plan.estimate_s)} on {plan.device} with {workers} "
        f"(estimated).\nNothing was written; the study's folder is {plan.folder}",
    ]


def schedule_in_words(study: StudySpec) -> str:
    """The planned looks of a growing comparison, in words."""
    looks = study.looks
    num_pairs = math.comb(
        len({trial.model_copy(update={"seed": 0, "split_seed": 0}) for trial in study.trials}), 2
    )
    levels = [level(alpha_of(Look(number, looks), num_pairs)) for number in range(1, len(looks) + 1)]
    return (
        f"{count(len(looks), 'look')} planned, after {listed(list(map(str, looks)))} seeds of each model, at the "
        f"{'levels' if len(looks) > 1 else 'level'} {listed(levels)}. The study ends at the first look "
        "that finds one model significantly better than every other."
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
            "num_programs": len(plan.programs),
            "workers": plan.workers,
            "device": plan.device,
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
            }
            for number, program in enumerate(plan.programs)
            for trial in program.trials
        ],
    }


def studies_table(studies: Sequence[StudySummary]) -> Table:
    """One row per study."""
    columns = (
        Column("name", "study", left=True),
        Column("kind", "kind", left=True),
        Column("created_at", "created", _local_time, left=True),
        Column("trials", "trials", thousands),
        *(Column(status.lower(), status.lower(), thousands) for status in TrialStatus),
    )
    rows = tuple(
        (
            study.name,
            study.kind,
            study.created_at,
            None if study.problem else sum(study.counts.values()),
            *(study.counts.get(status) for status in TrialStatus),
        )
        for study in studies
    )
    return Table("Studies", columns, rows, "\n".join(study.problem for study in studies if study.problem))


def _local_time(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


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
        ("source", info.source),
        ("digest", info.digest),
        ("cache", str(info.path or "not written")),
    )
    names = info.class_names or tuple(map(str, range(info.num_classes)))
    halves = info.class_counts
    rows = tuple(zip(range(info.num_classes), names, halves["train"], halves["test"], strict=True))
    classes = (
        Column("label", "label"),
        Column("name", "class", left=True),
        Column("train", "training", thousands),
        Column("test", "test", thousands),
    )
    return [
        facts_table(info.name, facts),
        Table("Classes", classes, rows),
    ]


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
