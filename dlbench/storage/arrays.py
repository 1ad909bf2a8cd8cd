"""What a checkpoint holds, read from orbax's files without orbax or jax, to compare it with the recorded digest."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Where the arrays of a trial's checkpoint lie, below its folder.
_STATE = "best/state/"
#: The parts of the digest, by the first key of an array's path.
_PARTS = {"params": 0, "batch_stats": 1}
_DICTIONARY = 2


def checkpoint_digest(files: Mapping[str, bytes]) -> str | None:
    """SHA-256 of a checkpoint's arrays, as :func:`dlbench.storage.checkpoints.tree_digest` computes it.

    Args:
        files: the files of a trial, by path below its folder.

    Returns:
        ``None`` where the arrays do not lie uncompressed in files of their own.

    Raises:
        ValueError: a file is missing or damaged.
    """
    try:
        described = json.loads(files[f"{_STATE}_METADATA"])["tree_metadata"].values()
        leaves = []
        for leaf in described:
            keys = [(each["key"], each["key_type"]) for each in leaf["key_metadata"]]
            if keys[0][0] not in _PARTS or any(kind != _DICTIONARY for _, kind in keys):
                return None
            folder = _STATE + ".".join(str(key) for key, _ in keys)
            array = json.loads(files[f"{folder}/.zarray"])
            shape = tuple(array["shape"])
            dtype = "<V2" if array["dtype"] == "bfloat16" else array["dtype"]
            if array["compressor"] or array["order"] != "C" or tuple(array["chunks"]) != shape:
                return None
            content = files[f"{folder}/{'.'.join('0' for _ in shape) or '0'}"]
            if len(content) != math.prod(shape) * np.dtype(dtype).itemsize:
                raise ValueError(f"{folder} holds {len(content)} bytes")
            path = f"[{_PARTS[keys[0][0]]}]" + "".join(f"[{key!r}]" for key, _ in keys[1:])
            leaves.append((path, shape, dtype, content))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    hashed = hashlib.sha256()
    for path, shape, dtype, content in sorted(leaves):
        hashed.update(f"{path} {shape} {dtype}\n".encode())
        hashed.update(content)
    return hashed.hexdigest()


def predicted_counts(logits: bytes, num_classes: int) -> list[int]:
    """How many images the saved logits assign to each class.

    Args:
        logits: the bytes of an .npy file: [N, num_classes].
        num_classes: number of classes.

    Raises:
        ValueError: it is no such file.
    """
    try:
        array: NDArray[Any] = np.load(io.BytesIO(logits), allow_pickle=False)
    except (OSError, EOFError, MemoryError) as error:
        raise ValueError(str(error)) from None
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # bfloat16: the upper half of a float32
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if array.ndim != 2 or array.shape[1] != num_classes or array.dtype.kind != "f":
        raise ValueError(f"it holds {array.dtype} {array.shape}")
    counts: list[int] = np.bincount(array.argmax(axis=1), minlength=num_classes).tolist()
    return counts
