"""The manifest of a study: everything needed to run it again and to explain different results. No jax."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import Trial
from dlbench.storage import checkout

FILE_NAME = "manifest.json"
#: Bytes of the file, at most.
LONGEST = 2**26
PACKAGES = (
    "dlbench",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "clu",
    "numpy",
    "scipy",
    "scikit-learn",
    "tensorflow-datasets",
    "mlxtend",
    "tensorboardX",
    "pydantic",
    "typer",
    "rich",
)
_VARIABLES = (
    "XLA_FLAGS",
    "JAX_PLATFORMS",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "CUDA_VISIBLE_DEVICES",
)


def describe(
    command: Sequence[str], study: StudySpec, trials: Sequence[Trial], workers: int, config: str = ""
) -> dict[str, Any]:
    """The part of the manifest that is known before the first worker has started.

    Args:
        command: the command line; empty if the study is run from Python.
        study: the study as specified.
        trials: its trials, resolved against their data.
        workers: number of worker processes.
        config: the text of the YAML file that describes the study, if there is one.
    """
    return {
        "command": list(command),
        "kind": study.kind,
        "num_trials": len(trials),
        "trial_ids": [trial.id for trial in trials],
        "axes": {name: list(values) for name, values in study.axes.items()},
        "looks": list(study.looks),
        **({"search": study.search.model_dump(mode="json")} if study.search else {}),
        "seeds": sorted({trial.spec.seed for trial in trials}),
        "lanes": sorted({trial.lanes for trial in trials}),
        "data_digests": {trial.spec.dataset: trial.data_digest for trial in trials},
        "workers": workers,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "config": config,
        **environment(),
    }


def environment() -> dict[str, Any]:
    """Versions, machine, git commit and environment variables."""
    return {
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "python": sys.version.split()[0],
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "git": checkout.describe(Path()),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> Mapping[str, str]:
    """The description of the processor in ``/proc/cpuinfo``, or from Python's ``platform`` elsewhere."""
    wanted = {"vendor_id", "cpu family", "model", "model name", "stepping", "cache size"}
    found: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in wanted:
                found.setdefault(name.strip(), value.strip())
    except OSError:
        found["model name"] = platform.processor()
    return found


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest.json`` atomically."""
    text = json.dumps(manifest, indent=2) + "\n"
    files.write_whole(folder / FILE_NAME, lambda file: file.write(text.encode()))
