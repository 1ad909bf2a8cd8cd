"""Optimizers: Adam and SGD with momentum, with decoupled or L2 weight decay.

The transformation is created inside each traced function from the hyper-parameters of that trace, so that the learning
rate can be an array with a lane axis. Its state holds no hyper-parameters. The arguments of an optimizer are static:
another value makes another program.
"""

from __future__ import annotations

import jax
import optax

from dlbench.errors import InputError
from dlbench.spec.parts import Scalar
from dlbench.spec.registry import OPTIMIZERS


@OPTIMIZERS.register("adam")
def adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam.

    Reference: Kingma and Ba, "Adam: a method for stochastic optimization", 2015.

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root of the second moment.

    Raises:
        InputError: a value is out of range.
    """
    _in_unit_interval("adam", b1=b1, b2=b2)
    if eps <= 0:
        raise InputError(f"eps of adam must be greater than 0; got {eps}")
    return optax.scale_by_adam(b1, b2, eps)


@OPTIMIZERS.register("sgd")
def sgd(momentum: float = 0.9, nesterov: bool = False) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD`` has it.

    Reference: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Args:
        momentum: decay of the accumulated gradients, in [0, 1).
        nesterov: whether to look ahead.

    Raises:
        InputError: a value is out of range.
    """
    _in_unit_interval("sgd", momentum=momentum)
    return optax.trace(decay=momentum, nesterov=nesterov)


def make_optimizer(
    optimizer: str,
    learning_rate: float | jax.Array,
    weight_decay: float | jax.Array,
    decay_mode: str = "decoupled",
    optimizer_args: tuple[tuple[str, Scalar], ...] = (),
) -> optax.GradientTransformation:
    """An optimizer with its learning rate and weight decay.

    Args:
        optimizer: "adam" or "sgd".
        learning_rate: scalar.
        weight_decay: scalar. "decoupled" subtracts learning rate × weight decay × parameter from the parameter
            (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019: AdamW's convention);
            "l2" adds weight decay × parameter to the gradient, as ``torch.optim.Adam`` and ``SGD`` do.
        decay_mode: "decoupled" or "l2".
        optimizer_args: what the optimizer is made with, where that is not its default.

    Raises:
        InputError: an argument is out of range.
    """
    direction = OPTIMIZERS.load(optimizer)(**dict(optimizer_args))
    decay = optax.add_decayed_weights(weight_decay)
    order = {"decoupled": (direction, decay), "l2": (decay, direction)}[decay_mode]
    return optax.chain(*order, optax.scale_by_learning_rate(learning_rate))


def _in_unit_interval(optimizer: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise InputError(f"{name} of {optimizer} must be in [0, 1); got {value}")
