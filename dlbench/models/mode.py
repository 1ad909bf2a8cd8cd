"""How a model is told whether it trains or evaluates: by whichever argument of ``__call__`` it has for that."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from dlbench.spec import switches


def mode(model: nn.Module, training: bool) -> dict[str, Any]:
    """The arguments that switch a model to training or to evaluation; none for a model that has no such switch."""
    return switches.arguments(_parameters(type(model).__call__), training)


def initial_mode(model: nn.Module) -> dict[str, Any]:
    """The arguments that initialisation needs: switches without a default, in evaluation."""
    parameters = _parameters(type(model).__call__)
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    return switches.arguments(needed, False)


def layers_with_modes(trace: Callable[[], object]) -> set[str]:
    """The layers that behave differently in training, by class: dropout of a rate above 0, and batch normalisation.

    Args:
        trace: calls a model.
    """
    found = set()

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        rates = [getattr(layer, name, None) for name in ("rate", "dropout_rate")]
        drops = hasattr(layer, "deterministic") and any(isinstance(r, int | float) and r > 0 for r in rates)
        if drops or hasattr(layer, "use_running_average"):
            found.add(type(layer).__name__)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        trace()
    return found


@functools.cache
def _parameters(call: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function that can be given by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(call).parameters.items() if p.kind in named}
