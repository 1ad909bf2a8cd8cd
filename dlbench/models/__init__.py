"""The networks, one file per family; imported when they are first used, so that naming them needs no jax.

A file here that registers models (``@MODELS.register``) is a family: nothing else has to name it.

Every module takes images as float32 [N, H, W, C] in [-1, 1] and returns logits [N, num_classes].
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dlbench.spec.registry import MODELS

if TYPE_CHECKING:
    from dlbench.models.creation import create
    from dlbench.models.experimental_cnn import (
        ExperimentalCNN,
        baseline,
        high_vision,
        modernist,
        stabilized,
    )
    from dlbench.models.layers import (
        ACTIVATIONS,
        BatchNorm,
        Conv,
        ConvBlock,
        Dense,
        gelu,
        uniform_fan_in,
    )
    from dlbench.models.simple_cnn import SimpleCNN

_LAYERS = ("ACTIVATIONS", "BatchNorm", "Conv", "ConvBlock", "Dense", "gelu", "uniform_fan_in")
_HOME = {"create": "dlbench.models.creation", **dict.fromkeys(_LAYERS, "dlbench.models.layers")}

__all__ = [
    "ACTIVATIONS",
    "BatchNorm",
    "Conv",
    "ConvBlock",
    "Dense",
    "ExperimentalCNN",
    "SimpleCNN",
    "baseline",
    "create",
    "gelu",
    "high_vision",
    "modernist",
    "stabilized",
    "uniform_fan_in",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name) or MODELS.home(name)
    if home is not None:
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'dlbench.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
