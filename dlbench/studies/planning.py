"""Run a study: plan, dispatch, collect, resume. No jax in this process unless ``workers=0`` asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dlbench import data
from dlbench.errors import SpecError
from dlbench.execution import devices
from dlbench.execution.plan import Plan, progress_of, statuses_in
from dlbench.records import digest
from dlbench.spec import registry, resolution
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import PARTS, TrialSpec
from dlbench.storage.studies import RUNS


def plan(
    study: StudySpec,
    *,
    out: Path | str | None = None,
    workers: int | None = None,
    lanes: int | Literal["auto"] = "auto",
    device: str = "auto",
    data_dir: str | None = None,
) -> Plan:
    """Check a study and say what it comes to; nothing is written but the cache of its data sets.

    Args:
        study: what to train.
        out: the study's folder; by default ``runs/KIND-DIGEST``.
        workers: processes to train in, 0 for this one; by default one a core, or one an accelerator.
        lanes: trials of a program that run as one vmapped program; "auto": one on a CPU.
        device: "auto", "cpu", "gpu", "tpu" or "metal".
        data_dir: where data sets lie; by default what ``DLBENCH_DATA_DIR`` says.

    Raises:
        InputError: a value breaks a rule.
        DataError: a data set is absent or damaged.
        StoreError: the folder holds something else.
    """
    if not study.trials:
        raise SpecError("the study has no trial; give every field at least one value")
    study = study.model_copy(update={"trials": tuple(map(_named, study.trials))})
    backend = devices.device(device)
    per_program = devices.lanes(lanes, backend)
    trials = tuple(resolution.resolve(study, lambda name: data.info(name, data_dir), per_program))
    name = f"{study.kind}-{digest([*(trial.id for trial in trials), *study.looks])[:10]}"
    folder = Path(out) if out is not None else RUNS / name
    done, failed = progress_of(statuses_in(folder, study.looks), trials)
    left = len(trials) - len(done)
    cores = devices.cores_each(workers, backend, len(trials))
    processes = devices.workers(workers, backend, study, left)
    return Plan(study, trials, folder, processes, cores, backend, data_dir, done, failed)


def _named(spec: TrialSpec) -> TrialSpec:
    """The same trial, its model by its reference; code outside dlbench only if this process has named it."""
    if ":" in spec.model:
        registry.check_trusted(spec.model)
    else:
        spec = spec.model_copy(update={"model": registry.resolve_model(spec.model)})
    for name, parts in PARTS.items():
        parts.arguments(getattr(spec, name), getattr(spec, f"{name}_args"))
    return spec
