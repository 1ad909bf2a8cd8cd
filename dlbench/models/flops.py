"""The floating-point operations of each network, counted by hand from its layers.

Counted are the products and sums of convolutions and dense layers, two operations each, padding included:
the convention of published figures. Activations, pooling, normalisation and the optimizer come to a few percent.
XLA's own count differs where dlbench computes the same by another way: Winograd's algorithm halves the second
layer of SimpleCNN, and the packed first layer multiplies by zeros to be faster. It does not look into compiled
kernels (:mod:`dlbench.ops.pooled`), which leave out most products with zeros, and is taken without them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dlbench.spec.trial import TrialSpec


@dataclass(frozen=True)
class Conv:
    """A convolution of a square image with a square kernel.

    Args:
        side: height and width of the output.
        kernel: side of the kernel.
        inputs: channels in.
        outputs: channels out.
    """

    side: int
    kernel: int
    inputs: int
    outputs: int

    @property
    def flops(self) -> int:
        """Operations forward, one image."""
        return 2 * self.side**2 * self.kernel**2 * self.inputs * self.outputs


@dataclass(frozen=True)
class Dense:
    """A fully connected layer."""

    inputs: int
    outputs: int

    @property
    def flops(self) -> int:
        """Operations forward, one image."""
        return 2 * self.inputs * self.outputs


def _experimental(kernel: int) -> tuple[Conv | Dense, ...]:
    return Conv(28, kernel, 1, 16), Conv(14, kernel, 16, 32), Dense(7 * 7 * 32, 128), Dense(128, 10)


#: The layers of each network on 28x28 grey images of 10 classes.
LAYERS: dict[str, tuple[Conv | Dense, ...]] = {
    "SimpleCNN": (Conv(26, 3, 1, 32), Conv(24, 3, 32, 64), Dense(12 * 12 * 64, 128), Dense(128, 10)),
    "Baseline": _experimental(3),
    "Stabilized": _experimental(3),
    "High-Vision": _experimental(5),
    "Modernist": _experimental(3),
}


#: Data sets of such images.
DIGITS = ("mnist5k", "mnist", "fashion_mnist", "kmnist")


def known(spec: TrialSpec) -> int | None:
    """Operations of one image in a training step of a trial; ``None`` where nobody has counted."""
    counted = spec.model in LAYERS and not spec.model_args and spec.dataset in DIGITS
    return training_flops(spec.model) if counted else None


def training_flops(model: str) -> int:
    """Operations of one image in a training step.

    Forward, and the same again for the gradients of the weights and of the layer's input; the images themselves
    need no gradient.
    """
    first, *rest = LAYERS[model]
    return 2 * first.flops + 3 * sum(layer.flops for layer in rest)
