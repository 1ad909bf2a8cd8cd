"""Make models by name."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from dlbench.errors import DlbenchError, InputError, shown
from dlbench.spec import parts, registry
from dlbench.spec.trial import Trial


def create(name: str, num_classes: int = 10, **arguments: Any) -> nn.Module:
    """Make a model by name: a built-in or registered one, or ``package.module:Attribute``.

    ``create("Stabilized(dropout_rate=0.5)")`` is ``create("Stabilized", dropout_rate=0.5)``.

    Args:
        name: as :meth:`dlbench.spec.registry.Registry.resolve` takes it.
        num_classes: number of logits.
        arguments: whatever the model takes besides (``kernel_size=5``).

    Raises:
        UnknownNameError: no such model.
        InputError: it takes no such argument, or makes no Flax module.
    """
    if parts.is_call(name):
        try:
            part = parts.parse(name)
        except ValueError as error:
            raise InputError(f"model must be {error}; got {shown(name)}") from None
        name, arguments = part.name, dict(part.arguments) | arguments
    reference = registry.MODELS.resolve(name)
    try:
        model = registry.MODELS.load(reference)(num_classes=num_classes, **arguments)
    except TypeError as error:
        raise InputError(
            f"model {name!r} cannot be made with num_classes={num_classes}"
            + "".join(f", {key}={value!r}" for key, value in arguments.items())
            + f": {error}"
        ) from None
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name!r} made a {type(model).__name__}, not a flax.linen.Module")
    return model


def create_for(trial: Trial, num_classes: int) -> nn.Module:
    """The Flax module a trial trains."""
    arguments = dict(trial.spec.arguments("model"))
    try:
        return create(trial.spec.model, num_classes=num_classes, **arguments)
    except (DlbenchError, OSError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"model {trial.spec.model!r} raised {type(error).__name__} when it was made: {error}; expected a "
            f"flax.linen.Module from num_classes={num_classes} and {arguments or 'nothing else'}"
        ) from error
