"""Optimizers through optax, with decoupled or L2 weight decay and gradient clipping.

The transformation is created inside each traced function from the hyper-parameters of that trace, so that the learning
rate and the dynamic arguments can be arrays with a lane axis. Its state holds no hyper-parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dlbench.errors import InputError
from dlbench.spec.parts import Scalar
from dlbench.spec.registry import OPTIMIZERS

#: A float, or an array that stands for one (see :class:`dlbench.training.state.Coefficient`).
Number = Any


@OPTIMIZERS.register(
    "adam",
    dynamic=("b1", "b2", "eps"),
    ranges={"b1": "[0, 1)", "b2": "[0, 1)", "eps": "(0, inf)"},
)
def adam(b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> optax.GradientTransformation:
    """Adam.

    Reference: Kingma and Ba, "Adam: a method for stochastic optimization", 2015.

    Args:
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
    """
    return optax.scale_by_adam(b1, b2, eps)


@OPTIMIZERS.register(
    "adamw",
    dynamic=("b1", "b2", "eps"),
    ranges={"b1": "[0, 1)", "b2": "[0, 1)", "eps": "(0, inf)"},
    requires={"decay_mode": "decoupled"},
)
def adamw(b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> optax.GradientTransformation:
    """AdamW: Adam with decoupled weight decay only.

    Reference: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019. The rate of decay is that of the
    trial, 0 unless it is given; PyTorch's is 0.01 by default.
    """
    return adam(b1, b2, eps)


@OPTIMIZERS.register("sgd", dynamic=("momentum",), ranges={"momentum": "[0, 1)"})
def sgd(momentum: Number = 0.9, nesterov: bool = False) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``.

    Reference: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Args:
        momentum: decay of the accumulated gradients.
        nesterov: whether to look ahead.
    """
    return optax.trace(decay=momentum, nesterov=nesterov)


@OPTIMIZERS.register(
    "rmsprop",
    dynamic=("decay", "eps", "momentum"),
    ranges={"decay": "[0, 1)", "eps": "(0, inf)", "momentum": "[0, 1)"},
)
def rmsprop(decay: Number = 0.99, eps: Number = 1e-8, momentum: Number = 0.0) -> optax.GradientTransformation:
    """Gradients divided by the root of their mean square, as ``torch.optim.RMSprop``.

    Reference: Tieleman and Hinton, "Lecture 6.5: RMSProp", 2012.

    Args:
        decay: decay of the mean square (``alpha`` in PyTorch).
        eps: added to the root.
        momentum: decay of the accumulated updates.
    """
    scale = optax.scale_by_rms(decay, eps, eps_in_sqrt=False)
    if isinstance(momentum, float) and momentum == 0:
        return scale
    return optax.chain(scale, optax.trace(decay=momentum))


@OPTIMIZERS.register("lion", dynamic=("b1", "b2"), ranges={"b1": "[0, 1)", "b2": "[0, 1)"})
def lion(b1: Number = 0.9, b2: Number = 0.99) -> optax.GradientTransformation:
    """The sign of a momentum.

    Reference: Chen et al., "Symbolic discovery of optimization algorithms", 2023.

    Args:
        b1: share of the momentum in the update.
        b2: decay of the momentum.
    """
    return optax.scale_by_lion(b1, b2)


@OPTIMIZERS.register(
    "muon",
    dynamic=("momentum", "b1", "b2"),
    ranges={"momentum": "[0, 1)", "iterations": "[1, 100]", "b1": "[0, 1)", "b2": "[0, 1)"},
)
def muon(
    momentum: Number = 0.95,
    nesterov: bool = True,
    iterations: int = 5,
    b1: Number = 0.9,
    b2: Number = 0.999,
) -> optax.GradientTransformation:
    """Momentum made orthogonal for weights; Adam for biases and scales of normalization.

    A kernel is the matrix of its outputs, the last axis, by all its inputs. Its momentum is made nearly orthogonal by a
    Newton-Schulz iteration, and multiplied by the root of the number of outputs over that of inputs where it exceeds 1.
    Reference: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, whose definition
    ``torch.optim.Muon`` follows too; both iterate in bfloat16, and this in float32. (``optax.contrib.scale_by_muon``
    corrects the bias of both terms of the Nesterov momentum, which gives other directions.) All weights are trained
    with it, the first and last layers' too, and Adam has the same learning rate.

    Args:
        momentum: decay of the accumulated gradients.
        nesterov: whether to look ahead.
        iterations: Newton-Schulz iterations.
        b1: decay of Adam's first moment.
        b2: decay of Adam's second moment.
    """

    def kinds(params: Any) -> Any:
        return jax.tree.map(lambda leaf: "weights" if leaf.ndim >= 2 else "others", params)

    def orthogonal(updates: Any, params: Any) -> Any:
        def of(leaf: jax.Array) -> jax.Array:
            matrix = orthogonalized(leaf.reshape(-1, leaf.shape[-1]), iterations)
            inputs, outputs = matrix.shape
            factor: float = max(1.0, outputs / inputs) ** 0.5
            return (matrix * factor).reshape(leaf.shape)

        return jax.tree.map(of, updates)

    weights = optax.chain(optax.trace(momentum, nesterov), optax.stateless(orthogonal))
    return optax.partition({"weights": weights, "others": optax.scale_by_adam(b1, b2)}, kinds)


def orthogonalized(matrix: jax.Array, iterations: int) -> jax.Array:
    """A matrix with the same singular vectors, and singular values between about 0.7 and 1.2.

    A Newton-Schulz iteration of the fifth degree, with the coefficients of Jordan et al., 2024.

    Args:
        matrix: float [M, N], not zero.
        iterations: number of iterations; 5 are enough for singular values from 0.01 of the Frobenius norm on.
    """
    wide: jax.Array = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (jnp.linalg.norm(wide) + 1e-7)
    for _ in range(iterations):
        squared = wide @ wide.T
        wide = 3.4445 * wide + (-4.775 * squared + 2.0315 * squared @ squared) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


def make_optimizer(
    optimizer: str,
    learning_rate: float | jax.Array,
    weight_decay: float | jax.Array,
    decay_mode: str = "decoupled",
    optimizer_args: Iterable[tuple[str, Number]] = (),
    *,
    decay_on: str = "all",
    clip_norm: float | jax.Array | None = None,
) -> optax.GradientTransformation:
    """An optimizer with its learning rate and weight decay.

    A user's factory that takes ``learning_rate`` is given it, and makes a whole optimizer, such as ``optax.adafactor``;
    any other makes a direction, such as ``optax.scale_by_adam``, which is multiplied by the negative rate. A factory
    that takes ``weight_decay`` sees to the decay itself.

    Args:
        optimizer: a name of :data:`~dlbench.spec.registry.OPTIMIZERS`, or the reference of a user's.
        learning_rate: scalar.
        weight_decay: scalar. "decoupled" subtracts learning rate × weight decay × parameter from the parameter
            (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019: AdamW's convention);
            "l2" adds weight decay × parameter to the gradient, as ``torch.optim.Adam`` and ``SGD`` do.
        decay_mode: "decoupled" or "l2".
        optimizer_args: what the optimizer is made with, where that is not its default.
        decay_on: "all", or "weights": parameters with two axes or more.
        clip_norm: the largest global norm of the gradients, which are scaled down to it before anything else;
            ``None`` for no limit.

    Raises:
        InputError: an argument is out of range, or the factory makes something else.
    """
    given = dict(optimizer_args)
    OPTIMIZERS.arguments(optimizer, tuple((k, v) for k, v in given.items() if isinstance(v, Scalar)))
    factory = OPTIMIZERS.load(optimizer)
    takes = inspect.signature(factory).parameters
    supplied = {"learning_rate": learning_rate, "weight_decay": weight_decay}
    made = factory(**given, **{name: value for name, value in supplied.items() if name in takes})
    if not isinstance(made, optax.GradientTransformation):
        raise InputError(
            f"optimizer {optimizer!r} made a {type(made).__name__}; expected an optax.GradientTransformation"
        )
    whole = "learning_rate" in takes
    steps = [made]
    if "weight_decay" not in takes:
        after = whole and decay_mode == "decoupled"
        rate = -learning_rate * weight_decay if after else weight_decay
        decay = optax.add_decayed_weights(rate, None if decay_on == "all" else _weights)
        steps.insert({"decoupled": 1, "l2": 0}[decay_mode], decay)
    if clip_norm is not None:
        steps.insert(0, clip_by_global_norm(clip_norm))
    if not whole:
        steps.append(optax.scale_by_learning_rate(learning_rate))
    return optax.chain(*steps)


def clip_by_global_norm(limit: float | jax.Array) -> optax.GradientTransformation:
    """Multiply gradients by limit / (global norm + 1e-6), at most 1, as ``torch.nn.utils.clip_grad_norm_``.

    Reference: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.
    """

    def update(updates: Any, params: Any) -> Any:
        factor = jnp.minimum(limit / (optax.tree.norm(updates) + 1e-6), 1.0)
        return jax.tree.map(lambda leaf: leaf * factor, updates)

    return optax.stateless(update)


def _weights(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
