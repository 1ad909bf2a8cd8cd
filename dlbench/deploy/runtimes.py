"""Exported files, each run by its own runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from numpy.typing import NDArray

from dlbench.models.network import Variables, network_of

Run = Callable[[NDArray[Any]], NDArray[Any]]


def opened(kind: str, path: Path, model: Any, threads: int) -> Run:
    """A function from float32 images [N, H, W, C] in [-1, 1] to logits.

    Args:
        kind: "stablehlo", "onnx" or "npz".
        path: the file.
        model: the model whose parameters an npz file holds, as :func:`dlbench.models.create` makes it.
        threads: threads of ONNX Runtime; those of jax are set when its process starts.
    """
    return {"stablehlo": _stablehlo, "onnx": _onnx, "npz": _npz}[kind](path, model, threads)


def _stablehlo(path: Path, model: Any, threads: int) -> Run:
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(images))


def _onnx(path: Path, model: Any, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: NDArray[Any]) -> NDArray[Any]:
        logits: NDArray[Any] = session.run(None, {name: images})[0]
        return logits

    return run


def _npz(path: Path, model: Any, threads: int) -> Run:
    """The arrays put back into the model, by the paths that are their names."""
    with np.load(path, allow_pickle=False) as arrays:
        trees: dict[str, Any] = {"params": {}, "batch_stats": {}, "input": {}}
        for name in arrays.files:
            tree, *path_in, last = name.split("/")
            place = trees[tree]
            for part in path_in:
                place = place.setdefault(part, {})
            place[last] = arrays[name]
    shift = trees.pop("input")
    network, variables = network_of(model), Variables(**trees)
    call = jax.jit(lambda images: network.apply(variables, jnp.asarray(images), {})[0])
    if not shift:
        return lambda images: np.asarray(call(images))
    return lambda images: np.asarray(call((images - shift["mean"]) / shift["std"]))
