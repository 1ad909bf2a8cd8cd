"""The environment of a worker: the variables set before jax starts, and the description recorded with every result.

jax is imported only by :func:`describe`, which only workers call.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.ops import native
from dlbench.records import digest
from dlbench.storage import manifest

#: The folder of compiled programs in the cache.
COMPILED = "xla"
_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu", "metal": "mps"}
#: Settings of jax that change numerical results.
_JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_random_seed_offset",
)
#: The entries of :func:`describe` that can change the bits of a result.
_CHANGES_BITS = (
    "backend",
    "devices",
    "jaxlib",
    "processor",
    "kernels",
    "xla_threads",
    "xla_flags",
    "settings",
)


def configure(environ: MutableMapping[str, str], device: str) -> None:
    """Set the variables that jax reads when it starts: platform, one thread on a CPU, shared compilation cache."""
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environ["JAX_PLATFORMS"] = _PLATFORMS[device]
    if device == "cpu":
        for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environ[name] = "1"
    environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(files.cache_root() / COMPILED))
    environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")


def xla_threads() -> int:
    """The number of threads of XLA's CPU backend, which changes the bits of results."""
    return int(os.environ.get("NPROC") or os.cpu_count() or 1)


def describe() -> dict[str, Any]:
    """Describe the environment of this process; its ``digest`` differs if the bits of results may differ."""
    import jax

    described = {
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "python": sys.version.split()[0],
        "processor": _processor(),
        "xla_threads": xla_threads(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "settings": {name: getattr(jax.config, name, None) for name in _JAX_SETTINGS},
        "kernels": _kernels(jax.default_backend()),
        "compilation_cache": os.environ.get("JAX_COMPILATION_CACHE_DIR"),
    }
    return described | {"digest": environment_digest(described)}


def environment_digest(described: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that are equal for environments in which nothing that can change bits differs."""
    return digest({name: described.get(name) for name in _CHANGES_BITS})[:16]


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two environments that can change bits, each as ``name: recorded → now``."""
    return [
        f"{name}: {recorded.get(name)} → {now.get(name)}"
        for name in _CHANGES_BITS
        if recorded.get(name) != now.get(name)
    ]


def _processor() -> str:
    cpu = manifest.processor()
    known = [cpu[name] for name in ("vendor_id", "cpu family", "model") if name in cpu]
    return "/".join([platform.machine(), *known])


def _kernels(backend: str) -> str | None:
    """The name of the compiled file that this process uses; it identifies source, compiler and processor."""
    return Path(native.chosen()).stem or None if backend == "cpu" else None
