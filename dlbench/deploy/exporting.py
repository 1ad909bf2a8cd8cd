"""The process that exports a trial: it writes the file, runs it on the test images, and measures it.

``python -m dlbench.deploy.exporting`` reads a request from standard input and prints what it found, both JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from numpy.typing import NDArray

import dlbench
from dlbench import data, ops
from dlbench.deploy import latency, runtimes
from dlbench.deploy.onnx_graph import INPUT, OPSET, to_onnx
from dlbench.errors import DlbenchError, InputError, WorkerError
from dlbench.files import scratch, write_new
from dlbench.models import create
from dlbench.models.network import Variables, network_of
from dlbench.spec.registry import MODELS
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.storage.checkpoints import LoadedModel, load

#: Two logits that are closer than this are a tie: rounding may answer either.
TIE = 1e-3
#: Images that int8 ranges are calibrated on.
CALIBRATION_IMAGES = 500
#: Images that are run at once.
_CHUNK = 500


def scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What an exported network takes: float32 in [-1, 1] of uint8 images."""
    return (images.astype(np.float32) / 255.0 - 0.5) / 0.5


def from_input(loaded: LoadedModel) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Mean and deviation that bring [-1, 1] to what the network was trained on; ``None`` where it is that already."""
    if loaded.pixels is None:
        return None
    mean, deviation = (np.array(each, np.float32) for each in loaded.pixels)
    return 2 * mean - 1, 2 * deviation


def function_of(loaded: LoadedModel) -> Callable[[Any], Any]:
    """The network as a function from float32 images in [-1, 1] to float32 logits."""
    network, variables = network_of(loaded.model), Variables(loaded.params, loaded.batch_stats)
    shift = from_input(loaded)

    def logits(images: Any) -> Any:
        images = images if shift is None else (images - shift[0]) / shift[1]
        found = network.apply(variables, images, {})[0]
        return found if found.dtype == jnp.float32 else found.astype(jnp.float32)

    return logits


def written(kind: str, loaded: LoadedModel, image_shape: tuple[int, int, int]) -> bytes:
    """The bytes of an exported network.

    Args:
        kind: "stablehlo", "onnx" or "npz".
        loaded: the trained model.
        image_shape: height, width, channels.

    Raises:
        InputError: the model has an operation that ONNX lacks.
    """
    if kind == "npz":
        return _arrays(loaded)
    if kind == "onnx":
        return to_onnx(function_of(loaded), image_shape, dlbench.__version__)
    (count,) = export.symbolic_shape("N")
    images = jax.ShapeDtypeStruct((count, *image_shape), jnp.float32)
    with ops.lowered("lax"):
        made = export.export(jax.jit(function_of(loaded)), platforms=["cpu", "cuda", "tpu"])(images)
    return bytes(made.serialize())


def _arrays(loaded: LoadedModel) -> bytes:
    """The parameters by their path, and what images are shifted and divided by, where they are."""
    import io

    named = {
        f"{tree}/{jax.tree_util.keystr(path, simple=True, separator='/')}": np.asarray(leaf)
        for tree, held in loaded.variables.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(held)
    }
    if shift := from_input(loaded):
        named |= {"input/mean": shift[0], "input/std": shift[1]}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **named)
    return file.getvalue()


def quantized(model: bytes, images: NDArray[np.float32]) -> bytes:
    """An ONNX model in int8: weights per channel, activations by ranges that images have shown.

    Args:
        model: the bytes of the model in float32.
        images: float32 [N, H, W, C], of which the ranges of activations are taken.
    """
    import logging

    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._chunks: Iterator[NDArray[np.float32]] = iter(
                np.array_split(images, max(1, len(images) // 100))
            )

        def get_next(self) -> dict[str, Any] | None:
            chunk = next(self._chunks, None)
            return None if chunk is None else {INPUT: chunk}

    logging.getLogger().setLevel(logging.ERROR)
    with scratch() as folder:
        plain, small = folder / "plain.onnx", folder / "int8.onnx"
        plain.write_bytes(model)
        quantization.quantize_static(
            str(plain),
            str(small),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Add"],
        )
        return small.read_bytes()


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Export a trial, run the file, and measure it.

    Args:
        asked: "folder" of the trial, "to", "int8", "out", "threads" and "data_dir"; "model", to trust a user's.

    Raises:
        DlbenchError: the trial cannot be exported.
        WorkerError: the exported network predicts other classes than the trained one.
    """
    if asked["model"]:
        MODELS.resolve(asked["model"])
    loaded = load(Path(asked["folder"]))
    spec, kind = loaded.trial.spec, asked["to"]
    dataset = data.load(spec.dataset, asked["data_dir"], test_size=spec.test_size)
    if dataset.targets == "numbers":
        raise InputError(f"the targets of {dataset.name} are numbers; only classifiers can be exported")
    made = written(kind, loaded, dataset.image_shape)
    if asked["int8"]:
        split = data.split_of(dataset, spec)
        chosen = split.half(dataset)[0][split.val_indices[:CALIBRATION_IMAGES]]
        made = quantized(made, scaled(chosen))
    out = Path(asked["out"])
    write_new(out, made)
    run = runtimes.opened(kind, out, loaded.model, asked["threads"])
    images = scaled(np.asarray(dataset.test_images))
    got = np.concatenate([run(images[n : n + _CHUNK]) for n in range(0, len(images), _CHUNK)])
    expected = loaded.predict(np.asarray(dataset.test_images))
    truth = np.asarray(dataset.test_labels)
    differ = got.argmax(axis=1) != expected.argmax(axis=1)
    top = np.sort(expected, axis=1)
    unsure = top[:, -1] - top[:, -2] < TIE
    if not asked["int8"] and (wrong := differ & ~unsure).any():
        out.unlink(missing_ok=True)
        raise WorkerError(
            f"the exported network and the trained one predict different classes for {int(wrong.sum())} of "
            f"{len(truth)} test images: their logits differ by up to {float(np.abs(got - expected).max()):.3g}"
        )
    return {
        "size_bytes": len(made),
        "opset": OPSET if kind == "onnx" else None,
        "num_images": len(truth),
        "differ": int(differ.sum()),
        "max_difference": float(np.abs(got - expected).max()),
        "correct_before": (expected.argmax(axis=1) == truth).tolist(),
        "correct_after": (got.argmax(axis=1) == truth).tolist(),
        "latency": asdict(latency.measure(run, images, asked["threads"])),
    }


def side_by_side(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Write models that are not trained, and measure them in turns.

    Args:
        asked: "models" with their arguments, "to", "int8", "threads", "rounds", "image_shape" and "num_classes".

    Raises:
        DlbenchError: a model cannot be made or written.
    """
    shape = tuple(asked["image_shape"])
    images = np.random.default_rng(0).uniform(-1, 1, (latency.BATCH, *shape)).astype(np.float32)
    keys = {name: jax.random.key(0) for name in ("params", "dropout")}
    runs, found = [], []
    with scratch() as folder:
        for place, name in enumerate(asked["models"]):
            model = create(name, asked["num_classes"])
            variables = network_of(model).init(keys, jnp.asarray(images[:1]), {})
            loaded = LoadedModel(model, *variables, Trial(spec=TrialSpec(model=name), data_digest=""))
            made = written(asked["to"], loaded, shape)
            path = folder / f"{place}.{asked['to']}"
            path.write_bytes(quantized(made, images) if asked["int8"] else made)
            runs.append(runtimes.opened(asked["to"], path, model, asked["threads"]))
            parameters = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
            found.append({"model": name, "parameters": parameters, "size_bytes": path.stat().st_size})
        latencies = latency.side_by_side(runs, images, asked["threads"], asked["rounds"])
    return {
        "models": [{**each, "latency": asdict(times)} for each, times in zip(found, latencies, strict=True)]
    }


def main() -> None:
    """Answer one request."""
    asked = json.load(sys.stdin)
    sys.path.extend(path for path in asked["path"] if path not in sys.path)
    try:
        print(json.dumps({"answer": side_by_side(asked) if "models" in asked else answer(asked)}))
    except DlbenchError as error:
        print(json.dumps({"error": error.text(), "code": error.exit_code, "field": error.field}))


if __name__ == "__main__":
    main()
