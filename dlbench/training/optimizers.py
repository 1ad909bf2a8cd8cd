"""Optimizers: Adam and SGD with momentum, with decoupled or L2 weight decay.

The transformation is created inside each traced function from the hyper-parameters of that trace, so that the learning
rate can be an array with a lane axis. Its state holds no hyper-parameters.
"""

from __future__ import annotations

import jax
import optax

MOMENTUM = 0.9


def make_optimizer(
    optimizer: str,
    learning_rate: float | jax.Array,
    weight_decay: float | jax.Array,
    decay_mode: str = "decoupled",
) -> optax.GradientTransformation:
    """Adam (betas 0.9 and 0.999, eps 1e-8) or SGD with momentum 0.9.

    Args:
        optimizer: "adam" or "sgd".
        learning_rate: scalar.
        weight_decay: scalar. "decoupled" subtracts learning rate × weight decay × parameter from the parameter
            (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019: AdamW's convention);
            "l2" adds weight decay × parameter to the gradient, as ``torch.optim.Adam`` and ``SGD`` do.
        decay_mode: "decoupled" or "l2".
    """
    direction = {"adam": optax.scale_by_adam, "sgd": lambda: optax.trace(decay=MOMENTUM)}[optimizer]()
    decay = optax.add_decayed_weights(weight_decay)
    order = {"decoupled": (direction, decay), "l2": (decay, direction)}[decay_mode]
    return optax.chain(*order, optax.scale_by_learning_rate(learning_rate))
