"""The networks, one file per family; imported when they are first used, so that naming them needs no jax.

Every module takes images as float32 [N, H, W, C] in [-1, 1] and returns logits [N, num_classes].
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
        ConvBlock,
        Dense,
        gelu,
        uniform_fan_in,
    )
    from dlbench.models.simple_cnn import SimpleCNN

_PLACES = {
    "creation": ("create",),
    "experimental_cnn": ("ExperimentalCNN", "baseline", "high_vision", "modernist", "stabilized"),
    "layers": ("ACTIVATIONS", "BatchNorm", "ConvBlock", "Dense", "gelu", "uniform_fan_in"),
    "simple_cnn": ("SimpleCNN",),
}
_HOME = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "ACTIVATIONS",
    "BatchNorm",
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
    if name in _HOME:
        return getattr(importlib.import_module(f"dlbench.models.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dlbench.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
