"""Checkpoints, written with orbax: the best parameters of a trial, with a description of the trial."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import jax
import numpy as np
import orbax.checkpoint as ocp
from numpy.typing import NDArray

from dlbench import files
from dlbench.data.mapped import blocks
from dlbench.errors import InputError, StoreError
from dlbench.models.creation import create_for
from dlbench.spec import registry
from dlbench.spec.trial import Trial
from dlbench.training import evaluation
from dlbench.training.metrics import hits
from dlbench.training.state import Pixels, static_part

BEST = "best"


@dataclass(frozen=True)
class LoadedModel:
    """A trained model.

    Args:
        model: the model, as :func:`dlbench.models.create` makes it; usually a Flax module.
        params: its parameters.
        batch_stats: its batch statistics; empty if it has none.
        trial: the trial that trained it.
        pixels: mean and standard deviation of each channel of its images, where it was trained with them.
    """

    model: Any
    params: Any
    batch_stats: Any
    trial: Trial
    pixels: Pixels | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables for ``model.apply``."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 [N, num_classes] of images, computed as for the recorded metrics.

        Args:
            images: uint8 [N, H, W, C], 0 to 255, or [N, H, W] for one channel, as in training.

        Raises:
            InputError: they are of another type or shape.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise InputError(
                f"images must be uint8, 0 to 255, as in training; got {images.dtype}",
                remedy="(x * 255).round().astype('uint8') converts numbers from 0 to 1",
            )
        images = images[..., np.newaxis] if images.ndim == 3 else images
        if images.ndim != 4:
            raise InputError(
                f"images must be [N, H, W, C], or [N, H, W] for one channel; got shape {images.shape}",
                remedy="x[np.newaxis] makes one image a batch",
            )
        predict = jax.jit(evaluation.predict, static_argnums=0)
        logits = predict(
            static_part(self.model, self.trial, self.pixels), self.params, self.batch_stats, images
        )
        return np.asarray(logits)

    def test_accuracy(self, data_dir: str | None = None) -> float:
        """Accuracy on the trial's test images, which equals the recorded one; nan where targets are numbers."""
        from dlbench import data

        spec = self.trial.spec
        registry.DATASETS.check_trusted(spec.dataset, "dataset")
        dataset = data.load(spec.dataset, data_dir, verify=True, test_size=spec.test_size)
        parts = blocks(dataset.test_images, evaluation.EVAL_CHUNK)
        return float(hits(np.concatenate([*map(self.predict, parts)]), dataset.test_labels).mean())


def best_files(
    trial: Trial,
    num_classes: int,
    params: Any,
    batch_stats: Any,
    sha256: str,
    pixels: Pixels | None = None,
) -> dict[str, bytes]:
    """The files of a checkpoint of a trial's best parameters, by path below the trial's folder.

    Orbax writes the first checkpoint of each set of shapes. For the following trials the same files are made
    directly, with this trial's arrays and description in them. `load` reads both with orbax.

    A save by orbax takes 29 ms for Baseline and 47 ms for SimpleCNN, the direct one 1.3 and 13 ms (median of 20, two
    cores). In a study of 200 trials of 64 images, orbax throughout takes 26 s instead of 16 s. Reusing one
    Checkpointer, OCDBT, `StandardCheckpointer` and `orbax.checkpoint.v1` are no faster than this use of orbax (28 to
    90 ms); a checkpoint that holds nothing but a JSON file takes 7 ms.

    Args:
        trial: the trial.
        num_classes: number of logits.
        params: pytree of arrays.
        batch_stats: pytree of arrays, possibly empty.
        sha256: the digest of both, by :func:`tree_digest`, which :func:`load` compares.
        pixels: mean and standard deviation of each channel of the images, where the trial was trained with them.
    """
    state = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    arrays = {
        jax.tree_util.keystr(keys, simple=True, separator="."): np.ascontiguousarray(leaf)
        for keys, leaf in leaves
    }
    about = {"trial": trial.model_dump(mode="json"), "num_classes": num_classes, "sha256": sha256}
    if pixels is not None:
        about["pixels"] = pixels
    shapes = structure, tuple((array.shape, array.dtype.str) for array in arrays.values())
    if shapes not in _layouts:
        with files.scratch() as folder:
            _write(folder / BEST, state, about)
            made = files_below(folder, BEST)
        if layout := _layout(made, arrays, about):
            _layouts[shapes] = layout
        return made
    return {
        name: arrays[part].tobytes()
        if isinstance(part, str)
        else _json_bytes(about)
        if part is None
        else part
        for name, part in _layouts[shapes].items()
    }


def files_below(folder: Path, name: str) -> dict[str, bytes]:
    """The files below ``folder / name``, by path below ``folder``.

    Orbax writes absolute paths into some of them; these are made relative to ``folder``.
    """
    here = os.fsencode(f"{folder.absolute()}/")
    found = {}
    for path in sorted((folder / name).rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            note = path.name == "commit_success.txt"
            found[path.relative_to(folder).as_posix()] = content.replace(here, b"") if note else content
    return found


#: Layouts of the checkpoints that this process has written, by tree structure, shapes and types. For each file:
#: the name of the array that it holds, None for the description of the trial, or bytes that all trials share.
_Layout = dict[str, str | bytes | None]
_layouts: dict[object, _Layout] = {}


def _write(path: Path, state: Any, about: dict[str, Any]) -> None:
    """Write a checkpoint with orbax, with uncompressed arrays in files of their own."""
    state_handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False)
    handler = ocp.CompositeCheckpointHandler(state=state_handler, about=ocp.JsonCheckpointHandler())
    with quiet_orbax(), ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(
            path, args=ocp.args.Composite(state=ocp.args.PyTreeSave(state), about=ocp.args.JsonSave(about))
        )


def _layout(
    made: Mapping[str, bytes], arrays: dict[str, NDArray[Any]], about: dict[str, Any]
) -> _Layout | None:
    """The layout of a checkpoint that orbax wrote; None unless every array is found in it byte for byte."""
    layout: _Layout = {}
    for name, content in made.items():
        path = PurePosixPath(name)
        array = arrays.get(path.parent.name)
        if array is not None and not path.name.startswith("."):
            layout[name] = path.parent.name
            if content != array.tobytes():
                return None
        else:
            layout[name] = None if content == _json_bytes(about) else content
    held = [part for part in layout.values() if isinstance(part, str)]
    complete = sorted(held) == sorted(arrays) and list(layout.values()).count(None) == 1
    return layout if complete else None


def _json_bytes(about: dict[str, Any]) -> bytes:
    return json.dumps(about).encode()


@contextmanager
def quiet_orbax() -> Iterator[None]:
    """Silence what orbax logs while it saves.

    That is a warning that arrays in files of their own need no merging; and, if a file cannot be written, tracebacks of
    its threads. It raises the error in the calling thread as well.
    """
    _ignore_late_writes()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@functools.cache
def _ignore_late_writes() -> None:
    """Silence writes that end after orbax has given up because another one failed."""
    hook = sys.unraisablehook

    def show(error: sys.UnraisableHookArgs) -> None:
        is_late = isinstance(error.exc_value, RuntimeError) and str(error.exc_value) == "Event loop is closed"
        if not is_late:
            hook(error)

    sys.unraisablehook = show


class HasFolder(Protocol):
    """A trial's result, or any other object that has the trial's folder."""

    @property
    def folder(self) -> Path:
        """The trial's folder."""


def load(trial: HasFolder | Path | str) -> LoadedModel:
    """Load a trial's model with its best parameters.

    Args:
        trial: a trial's result, or its folder (``runs/STUDY/trials/ID``).

    Raises:
        StoreError: there is no checkpoint, or it is damaged: its digest is not the recorded one.
        InputError: the model is user code that this process has not named.
    """
    folder = Path(trial) if isinstance(trial, Path | str) else trial.folder
    path = (folder / BEST).absolute()
    if not path.is_dir():
        raise StoreError(f"{folder} holds no checkpoint: the trial did not complete")
    if odd := next((each for each in path.rglob("*") if not (each.is_file() or each.is_dir())), None):
        raise StoreError(f"the checkpoint in {path} is damaged: {odd} is not a file")
    try:
        check_claims(path)
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler("state", "about")) as checkpointer:
            about = checkpointer.restore(path, args=ocp.args.Composite(about=ocp.args.JsonRestore())).about
            stored = checkpointer.restore(path, args=ocp.args.Composite(state=ocp.args.PyTreeRestore()))
        record = Trial.model_validate(about["trial"])
        num_classes = int(about["num_classes"])
        pixels = about.get("pixels") and tuple(tuple(map(float, channel)) for channel in about["pixels"])
        state = {"params": stored.state["params"], "batch_stats": stored.state.get("batch_stats", {})}
        recorded = {about.get("sha256"), getattr(trial, "best_params_sha256", None)} - {None}
        found = tree_digest((state["params"], state["batch_stats"]))
    except (ValueError, KeyError, TypeError, OSError, AttributeError, StoreError) as error:
        raise StoreError(f"the checkpoint in {path} is damaged: {error}") from error
    if recorded - {found}:
        raise StoreError(
            f"the checkpoint in {path} is damaged: the digest of its parameters is {found[:12]}, recorded was "
            f"{' and '.join(sorted(each[:12] for each in recorded))}"
        )
    registry.check_trusted(record.spec.model)
    model = create_for(record, num_classes)
    return LoadedModel(model, state["params"], state["batch_stats"], record, pixels)


def check_claims(folder: Path, limit: int | None = None) -> None:
    """Make sure that reading a checkpoint ends, and takes no more memory than it should.

    Args:
        folder: the checkpoint.
        limit: bytes of its arrays; those of its files unless given, which suffice where nothing is compressed.

    Raises:
        ValueError: something else than files and folders is in it, or its arrays claim more bytes.
        OSError: it cannot be read.
    """
    held = 0
    for path in folder.rglob("*"):
        status = path.lstat()
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            raise ValueError(f"{path} is neither a file nor a folder")
        held += status.st_size if stat.S_ISREG(status.st_mode) else 0
    described = ocp.PyTreeCheckpointHandler().metadata(folder / "state")
    claimed = 0
    for leaf in jax.tree.leaves(described.tree):
        chunk = leaf.storage.chunk_shape if leaf.storage else ()
        claimed += max(math.prod(leaf.shape), math.prod(chunk or ())) * np.dtype(leaf.dtype).itemsize
    if claimed > (held if limit is None else limit):
        raise ValueError(f"its arrays claim {claimed:,} bytes")


def tree_digest(tree: Any) -> str:
    """SHA-256 over the path, shape, type and bytes of every leaf, in the order of the paths."""
    hashed = hashlib.sha256()
    for path, leaf in sorted(
        (jax.tree_util.keystr(path), np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ):
        hashed.update(f"{path} {leaf.shape} {leaf.dtype.str}\n".encode())
        hashed.update(np.ascontiguousarray(leaf).tobytes())
    return hashed.hexdigest()
