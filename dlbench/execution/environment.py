"""The environment of a worker: the variables set before jax starts, and the description recorded with every result.

Settings that change numbers are pinned (:data:`PINNED`, :data:`DEFAULTED`) or, if people set them on purpose
(:data:`SAID`), part of the environment digest and reported. jax is imported only by :func:`describe`, which only
workers call.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.errors import InputError
from dlbench.ops import native
from dlbench.records import digest
from dlbench.storage import manifest

#: The folder of compiled programs in the cache.
COMPILED = "xla"
#: When a study starts, that folder is trimmed to this size, least recently used files first.
CACHE_BYTES = 2**30
_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu", "metal": "mps"}
#: Environment variables of jax that change numbers, and what they are set to in every worker, whatever the user has
#: set; ``None``: not set. jax's configuration holds the same value under the name in lower case.
PINNED: Mapping[str, bool | int | float | str | None] = {
    "JAX_ENABLE_X64": False,
    "JAX_DEFAULT_PRNG_IMPL": "threefry2x32",
    "JAX_RANDOM_SEED_OFFSET": 0,
    "JAX_DEFAULT_MATMUL_PRECISION": None,
    "JAX_THREEFRY_PARTITIONABLE": True,
    "JAX_THREEFRY_GPU_KERNEL_LOWERING": False,
    "JAX_ENABLE_CUSTOM_PRNG": False,
    "JAX_NUMPY_DTYPE_PROMOTION": "standard",
    "JAX_NUMPY_RANK_PROMOTION": "allow",
    "JAX_ALLOW_F16_REDUCTIONS": True,
    "JAX_HIGH_DYNAMIC_RANGE_GUMBEL": False,
    "JAX_DISABLE_JIT": False,
    "JAX_DISABLE_MOST_OPTIMIZATIONS": False,
    "JAX_EXEC_TIME_OPTIMIZATION_EFFORT": 0.0,
    "JAX_MEMORY_FITTING_EFFORT": 0.0,
    "JAX_COMPILER_ENABLE_REMAT_PASS": True,
    "JAX_ENABLE_PGLE": False,
    "JAX_DEBUG_NANS": False,
    "JAX_DEBUG_INFS": False,
    "JAX_DEFAULT_DEVICE": None,
}
#: What is pinned to another value on a kind of device. A GPU multiplies float32 numbers as TF32, with 10 bits of
#: mantissa, in matrix products and in convolutions, at every precision but jax's "highest".
PINNED_ON: Mapping[str, Mapping[str, bool | int | float | str | None]] = {
    "gpu": {"JAX_DEFAULT_MATMUL_PRECISION": "highest"},
}
#: Flags of XLA that are set on a kind of device, before those of the user. Without this one, XLA times several
#: implementations while it compiles a program for a GPU and takes the fastest, so that two processes can compute other
#: bits; and compiling takes about four times as long.
XLA_FLAGS_ON: Mapping[str, str] = {"gpu": "--xla_gpu_deterministic_ops=true"}
#: Others, whose default belongs to the release of jax: they are taken away, and that release is recorded.
DEFAULTED = (
    "JAX_OPTIMIZATION_LEVEL",
    "JAX_MEMORY_FITTING_LEVEL",
    "JAX_USE_DIRECT_LINEARIZE",
    "JAX_SOFTMAX_CUSTOM_JVP",
    "JAX_SCAN3",
    "JAX_REMAT3",
    "JAX_CUSTOM_VJP3",
    "JAX_EXPLICIT_X64_DTYPES",
    "JAX_EAGER_CONSTANT_FOLDING",
    "JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS",
    "JAX_NUM_CPU_DEVICES",
    "JAX_PJRT_CLIENT_CREATE_OPTIONS",
    "JAX_PLATFORM_NAME",
)
#: Variables that change numbers and that people set on purpose: they are kept. The first has a part of its own in what
#: is recorded.
SAID = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_MAX_CPU_ISA",
)
#: Configuration of jax that is recorded.
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
    "convolutions",
    "xla_threads",
    "xla_flags",
    "settings",
    "variables",
)
#: Threads of XLA's CPU backend, where this module has started it in the calling process.
_threads: int | None = None


class SettingError(InputError):
    """jax is configured in a way that changes numbers."""


def pinned(device: str) -> dict[str, bool | int | float | str | None]:
    """What each variable of :data:`PINNED` is set to on a kind of device."""
    return {**PINNED, **PINNED_ON.get(device, {})}


def configure(environ: MutableMapping[str, str], device: str) -> None:
    """Set what jax reads when it starts: platform, numerics, one thread on a CPU, a shared compilation cache."""
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in (*PINNED, *DEFAULTED):
        environ.pop(name, None)
    environ.update({name: str(value) for name, value in pinned(device).items() if value is not None})
    environ["JAX_PLATFORMS"] = _PLATFORMS[device]
    if flags := XLA_FLAGS_ON.get(device):
        environ["XLA_FLAGS"] = " ".join((flags, environ.get("XLA_FLAGS", ""))).strip()
    if device == "cpu":
        for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environ[name] = "1"
    environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(files.cache_root() / COMPILED))
    environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")


def backend_is_up() -> bool:
    """Whether jax has already started a backend in this process, so that its threads and platform are fixed.

    jax has no public way to ask this without starting a backend; this attribute is only read.
    """
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(bridge.backends_are_initialized())


@contextlib.contextmanager
def computing_in_float32() -> Iterator[None]:
    """Pin what a kind of device needs besides :data:`PINNED`, in a process whose jax may have been imported before.

    Settings that are not at jax's own default are left for :func:`check_settings` to refuse.
    """
    import jax

    ours = {name.lower(): value for name, value in PINNED_ON.get(jax.default_backend(), {}).items()}
    ours = {name: value for name, value in ours.items() if getattr(jax.config, name) is None}
    for name, value in ours.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name in ours:
            jax.config.update(name, None)


@contextlib.contextmanager
def configured(device: str, starting: bool) -> Iterator[None]:
    """Configure the calling process for training, and restore its environment variables afterwards.

    Args:
        device: "cpu", "gpu", "tpu" or "metal".
        starting: whether jax has not been started yet; otherwise, its configuration stays as it is.
    """
    global _threads
    before = dict(os.environ)
    if starting:
        configure(os.environ, device)
        _threads = xla_threads()
    changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    try:
        yield
    finally:
        for name in changed | {native.VARIABLE}:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


def check_settings(remedy: str) -> None:
    """Check that all pinned settings of jax have their values, however jax was configured.

    Args:
        remedy: what to do if they do not.

    Raises:
        SettingError: names the first setting that differs, its value, and the value that it must have.
    """
    for name, wanted, found in _others():
        raise SettingError(
            f"jax is configured with {name}={found!r} in this process, which changes numbers; trials are trained with "
            f"{wanted!r}",
            value=found,
            remedy=remedy,
        )


def restore_settings() -> None:
    """Set all pinned settings of jax to their values."""
    import jax

    for name, wanted, _ in [*_others()]:
        jax.config.update(name, wanted)


def _others() -> Iterator[tuple[str, object, object]]:
    """The settings of jax that differ from the pinned ones: name, pinned value, actual value."""
    import jax

    for variable, wanted in pinned(jax.default_backend()).items():
        found = getattr(jax.config, variable.lower(), wanted)
        if found != wanted:
            yield variable.lower(), wanted, found


def xla_threads() -> int:
    """The number of threads of XLA's CPU backend, which changes the bits of results."""
    return _threads or int(os.environ.get("NPROC") or os.cpu_count() or 1)


def describe() -> dict[str, Any]:
    """Describe the environment of this process; its ``digest`` differs if the bits of results may differ."""
    import jax

    described = {
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "python": sys.version.split()[0],
        "processor": processor_name(platform.machine(), manifest.processor()),
        "xla_threads": xla_threads(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "variables": {name: os.environ[name] for name in SAID[1:] if os.environ.get(name)},
        "settings": {name: getattr(jax.config, name, None) for name in _JAX_SETTINGS},
        "kernels": (kernels := _kernels(jax.default_backend())),
        "convolutions": native.CONVOLUTIONS if kernels else None,
        "compilation_cache": os.environ.get("JAX_COMPILATION_CACHE_DIR"),
    }
    return described | {"digest": environment_digest(described)}


def environment_digest(described: Mapping[str, Any]) -> str:
    """16 hexadecimal digits, equal for environments that do not differ in anything that can change bits."""
    parts = {name: described.get(name) for name in _CHANGES_BITS}
    parts["devices"] = (parts["devices"] or [])[:1]  # the one that trains: a worker may see one of several
    for name in ("variables", "convolutions"):
        if not parts[name]:  # as of the environments that were recorded before there was this part
            del parts[name]
    return digest(parts)[:16]


def notices(described: Mapping[str, Any]) -> list[str]:
    """A sentence about each setting in which an environment differs from the default one of workers."""
    given = (
        described.get("xla_flags", "")
        .removeprefix(XLA_FLAGS_ON.get(described.get("backend", ""), ""))
        .strip()
    )
    flags = {SAID[0]: given} if given else {}
    said = [
        f"{name}={value} is set: it can change bits, so it is part of the environment that is recorded with each trial"
        for name, value in (flags | described.get("variables", {})).items()
    ]
    if described.get("backend") == "cpu" and described.get("xla_threads", 1) != 1:
        said.append(
            f"jax was running in this process before, with {described['xla_threads']} threads instead of one: bits can "
            "differ from those of worker processes, so this is part of the environment that is recorded with each trial"
        )
    return said


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two environments that can change bits, each as ``name: recorded → now``."""
    before, after = changing_bits(recorded), changing_bits(now)
    return [
        f"{name}: {recorded.get(name)} → {now.get(name)}" for name in before if before[name] != after[name]
    ]


def changing_bits(described: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an environment that can change bits; ``None`` for what is empty or was not recorded."""
    return {name: described.get(name) or None for name in _CHANGES_BITS}


def change(recorded: str | None, now: Mapping[str, Any], described: Mapping[str, Mapping[str, Any]]) -> str:
    """What distinguishes a recorded environment from another one, in words.

    Args:
        recorded: its digest; ``None`` if it was not recorded.
        now: the other environment.
        described: descriptions of the environments of the study, by digest.
    """
    if recorded is None:
        return "which was not recorded"
    changed = "; ".join(differences(described[recorded], now)) if recorded in described else ""
    return f"{recorded}, now {now.get('digest')}" + (f"; {changed}" if changed else "")


def processor_name(machine: str, cpu: Mapping[str, str]) -> str:
    """The kind of a processor: "x86_64/GenuineIntel/6/143".

    Args:
        machine: its architecture.
        cpu: its description, see :func:`dlbench.storage.manifest.processor`.
    """
    known = [cpu[name] for name in ("vendor_id", "cpu family", "model") if name in cpu]
    return "/".join([machine, *known])


def _kernels(backend: str) -> str | None:
    """The name of the compiled file that this process uses; it identifies source, compiler and processor."""
    return Path(native.chosen()).stem or None if backend == "cpu" else None
