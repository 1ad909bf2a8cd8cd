"""Make models by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import flax.linen as nn

from dlbench.errors import DlbenchError, InputError, shown
from dlbench.spec import parts, registry
from dlbench.spec.parts import Arguments
from dlbench.spec.trial import Trial


def create(name: str, num_classes: int = 10, **arguments: Any) -> Any:
    """Make a model by name: a built-in or registered one, or ``package.module:Attribute``.

    A class or function that takes ``rngs`` makes an NNX module, and is called by training, which has the keys.

    ``create("Stabilized(dropout_rate=0.5)")`` is ``create("Stabilized", dropout_rate=0.5)``.

    Args:
        name: as :meth:`dlbench.spec.registry.Registry.resolve` takes it.
        num_classes: number of logits.
        arguments: whatever the model takes besides (``kernel_size=5``).

    Raises:
        UnknownNameError: no such model.
        InputError: it takes no such argument, or makes something else.

    Returns:
        A ``flax.linen.Module``, a function that makes an NNX module from ``nnx.Rngs``, or a pair of functions that
        initialise parameters and compute logits (see :mod:`dlbench.models.network`).
    """
    if parts.is_call(name):
        try:
            part = parts.parse(name)
        except ValueError as error:
            raise InputError(f"model must be {error}; got {shown(name)}") from None
        name, arguments = part.name, dict(part.arguments) | arguments
    reference = registry.MODELS.resolve(name)
    factory = registry.MODELS.load(reference)
    if isinstance(factory, nn.Module):  # an instance that was given itself
        return factory
    try:
        called = factory.__init__ if inspect.isclass(factory) else factory
        if "rngs" in inspect.signature(called).parameters:
            return NnxFactory(factory, num_classes, tuple(sorted(arguments.items())))
        model = factory(num_classes=num_classes, **arguments)
    except TypeError as error:
        raise InputError(
            f"model {name!r} cannot be made with num_classes={num_classes}"
            + "".join(f", {key}={value!r}" for key, value in arguments.items())
            + f": {error}"
        ) from None
    if isinstance(model, nn.Module) or (
        isinstance(model, tuple) and len(model) == 2 and all(map(callable, model))
    ):
        return model
    raise InputError(
        f"model {name!r} made a {type(model).__name__}; expected a flax.linen.Module, or a pair of functions, "
        "init and apply",
        remedy="a flax.nnx.Module is made by a class or function that takes rngs",
    )


@dataclass(frozen=True)
class NnxFactory:
    """Makes an NNX module from ``nnx.Rngs``; equal where class or function and arguments are."""

    factory: Any
    num_classes: int
    arguments: Arguments = ()

    def __call__(self, rngs: Any) -> Any:
        """Make it."""
        return self.factory(num_classes=self.num_classes, rngs=rngs, **dict(self.arguments))


def create_for(trial: Trial, num_classes: int) -> Any:
    """The model that a trial trains, as :func:`create` makes it."""
    arguments = dict(trial.spec.arguments("model"))
    try:
        return create(trial.spec.model, num_classes=num_classes, **arguments)
    except (DlbenchError, OSError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"model {trial.spec.model!r} raised {type(error).__name__} when it was made: {error}; expected a "
            f"model from num_classes={num_classes} and {arguments or 'nothing else'}"
        ) from error
