"""Choose the device, the number of lanes and the number of workers, without importing jax."""

from __future__ import annotations

import functools
import math
import os
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from dlbench.errors import Field, InputError, SpecError, unknown
from dlbench.execution import costs
from dlbench.models.counts import Counts, Request
from dlbench.models.counts import count as count_models
from dlbench.spec import live_code, registry
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import TrialSpec

DEVICES = ("auto", "cpu", "gpu", "tpu", "metal")
#: The largest number of lanes that "auto" chooses on an accelerator, and the operations of a step up to which it adds
#: lanes. On an NVIDIA H100, more lanes than this raise the throughput by a third at most (see benchmarks.md).
MOST_LANES = 64
STEP_FLOPS = 30_000_000_000
#: Other names of these devices.
_SYNONYMS = {"cuda": "gpu", "nvidia": "gpu", "rocm": "gpu", "mps": "metal"}
_PLUGINS = {"gpu": ("jax-cuda12-plugin", "jax-cuda13-plugin"), "tpu": ("libtpu",), "metal": ("jax-mps",)}


def device(asked: str) -> str:
    """The kind of device to train on; "auto" takes the first accelerator that jax has a plug-in for.

    Raises:
        SpecError: there is no such kind of device, or its plug-in is not installed.
    """
    if asked not in DEVICES:
        if meant := _SYNONYMS.get(asked.lower()) if isinstance(asked, str) else None:
            raise SpecError.must_be("device", f"one of {', '.join(DEVICES)}", asked, remedy=f"use {meant!r}")
        raise SpecError(unknown("device", asked, DEVICES), field="device", value=asked)
    installed = [device for device, packages in _PLUGINS.items() if any(map(_is_installed, packages))]
    if asked == "auto":
        return installed[0] if installed else "cpu"
    if asked != "cpu" and asked not in installed:
        extra = {"gpu": "cuda"}.get(asked, asked)
        raise SpecError(
            *(Field("device"), f" {asked} needs a jax plug-in that is not installed"),
            value=asked,
            remedy=(f"run pip install 'dlbench[{extra}]', or use ", Field("device"), " cpu"),
        )
    return asked


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def lanes(asked: int | str, kind: str) -> Callable[[TrialSpec], int]:
    """A function from a trial, its sizes explicit, to its number of lanes.

    "auto" gives 1 on a CPU. On an accelerator it gives the largest power of two, up to :data:`MOST_LANES`, for which a
    step of all lanes takes :data:`STEP_FLOPS` at most; 1 for a model whose operations cannot be counted. It depends on
    the trial alone, so a trial has the same id and bits in every study. Lanes without a trial repeat one.

    Raises:
        SpecError: the value is neither "auto" nor a number from 1 to 4096.
    """
    if asked == "auto":
        return (lambda spec: 1) if kind == "cpu" else _automatic_lanes
    if not isinstance(asked, int) or isinstance(asked, bool) or not 1 <= asked <= 4096:
        raise SpecError.must_be("lanes", "'auto' or a number from 1 to 4096", asked)
    return lambda spec: asked


def _automatic_lanes(spec: TrialSpec) -> int:
    request = costs.request_of(spec)
    counted = _counted(request) if request else None
    if counted is None:
        return 1
    step = max(1, spec.batch_size * counted.training_flops)
    return min(MOST_LANES, 1 << max(0, (STEP_FLOPS // step).bit_length() - 1))


@functools.lru_cache(maxsize=1024)  # trials by the ten thousand share a few models
def _counted(request: Request) -> Counts | None:
    return count_models([request]).get(request)


def workers(asked: int | None, available: int, study: StudySpec, left: int, here: bool = True) -> int:
    """The number of workers; 0 trains in this process.

    By default one per core or accelerator, but no more than there are trials left to train.

    Args:
        asked: as it is asked for.
        available: the number of cores or accelerators.
        study: the study.
        left: the number of trials left to train.
        here: whether they are processes of this machine, and not of a cluster.

    Raises:
        SpecError: the value is not a number, or too large for one machine; a cluster needs workers.
        InputError: workers cannot import the model.
    """
    in_main = [spec.model for spec in study.trials if live_code.is_in_memory(spec.model)]
    if asked is None and in_main and here:
        return 0
    if asked is not None:
        least, most = (0, 1024) if here else (1, 1_000_000)
        if isinstance(asked, bool) or not isinstance(asked, int) or not least <= asked <= most:
            place = "" if here else " on a cluster"
            raise SpecError.must_be("workers", f"a number from {least} to {most}{place}", asked)
    if asked != 0 and in_main:
        raise InputError(
            f"the model {registry.label(in_main[0])!r} exists in this process alone, from which worker "
            "processes cannot import it",
            field="model",
            value=in_main[0],
            remedy="move it to a module, or train in this process with workers=0",
        )
    return max(1, min(available, left)) if asked is None else asked


def cores_each(asked: int | None, kind: str, trials: int) -> int:
    """The number of cores that train one trial; more than one only if a study has fewer trials than there are cores.

    It is the same for all trials of a study, so that their times can be compared. It is 1 if the number of workers
    is given (``asked``).
    """
    return max(1, count("cpu") // max(trials, 1)) if asked is None and kind == "cpu" else 1


def count(kind: str) -> int:
    """The number of cores or GPUs that this process may use; 1 for any other kind of accelerator."""
    if kind == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, math.ceil(min(cores, cpu_quota())))
    return max(1, len(gpus())) if kind == "gpu" else 1


def cpu_quota(root: Path = Path("/")) -> float:
    """How many cores a container or a scheduler grants this process's control group; infinity where there is no limit.

    The smallest limit of the group and those above it holds. Sources: the Linux kernel's documentation of control
    groups, version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us``).

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for line in groups:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        if controllers and not top.is_dir():
            top = root / "sys/fs/cgroup" / controllers
        inner = top / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder == top.parent:
                break
            least = min(least, _quota(folder))
    return least


def _quota(group: Path) -> float:
    """The cores that one control group is granted."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError):  # none, or "max"
        return math.inf


def gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]
