"""The environment in which the workers of a study would train, known before any of them starts. No jax.

Only a process that runs jax can describe it (:func:`dlbench.execution.environment.describe`), so a child process does.
On a CPU its answer depends on nothing but what this process sees as well, so it is kept in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.errors import StoreError, WorkerError
from dlbench.execution import devices, environment
from dlbench.ops import native
from dlbench.records import digest
from dlbench.storage import manifest

#: The folder of answers in the cache.
_FOLDER = "environments"
#: Bytes of an answer, at most.
_LONGEST = 2**16


def worker_environment(device: str) -> dict[str, Any]:
    """Describe the environment of a worker process on this machine, as the worker itself would.

    Args:
        device: "cpu", "gpu", "tpu" or "metal".

    Raises:
        WorkerError: jax cannot start.
    """
    environ = dict(os.environ)
    environment.configure(environ, device)
    if device != "cpu":
        if gpus := devices.gpus() if device == "gpu" else []:
            environ["CUDA_VISIBLE_DEVICES"] = gpus[0]
        return described_by_child(environ)
    native.choose(environ)
    path = files.cache_root() / _FOLDER / f"{_key(environ)}.json"
    known = _read(path)
    if known is None:
        known = described_by_child(environ)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(known)
            files.write_whole(path, lambda file: file.write(text.encode()))
    return known


def described_by_child(environ: MutableMapping[str, str]) -> dict[str, Any]:
    """Let a child process with these environment variables describe its environment.

    Raises:
        WorkerError: jax cannot start.
    """
    command = [sys.executable, "-P", "-m", "dlbench.execution.worker", "environment"]
    environ = {**environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # a study may be using the GPU's memory
    for _ in range(2):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode >= 0:  # not killed
            break
    if done.returncode:
        raise WorkerError(f"jax cannot start:\n{done.stderr.strip()}")
    described: dict[str, Any] = json.loads(done.stdout)
    return described


def _key(environ: MutableMapping[str, str]) -> str:
    """A digest of everything on which the description of a CPU depends."""
    code = hashlib.sha256(Path(environment.__file__).read_bytes()).hexdigest()
    versions = [metadata.version(name) for name in ("jax", "jaxlib")]
    variables = {
        name: value
        for name, value in environ.items()
        if name.startswith(("JAX_", "XLA_")) or name in (*environment.SAID, "NPROC", native.VARIABLE)
    }
    return digest([code, sys.executable, sys.version, versions, dict(manifest.processor()), variables])[:32]


def _read(path: Path) -> dict[str, Any] | None:
    """An answer in the cache; ``None`` if there is none, or if it is damaged."""
    try:
        known = json.loads(files.read(path, _LONGEST))
        intact = known["digest"] == environment.environment_digest(known)
    except (OSError, StoreError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return known if intact else None
