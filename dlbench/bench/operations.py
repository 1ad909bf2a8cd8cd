"""How fast the convolutions and matrix products of a model are, one by one, beside a matrix product of large matrices.

Each is computed as workers compute it, alone and with one thread: forward, and the gradients that training needs. Runs
in a process that measures.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dlbench import ops
from dlbench.models.counting import Product, operations, products

#: Each operation is repeated for so many seconds at least, and this many times.
_SECONDS, _CALLS = 0.1, 5


def measure(model: Any, shape: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Measure the operations of a training step.

    Args:
        model: a model as :func:`dlbench.models.creation.create` makes it.
        shape: number of images, height, width, channels.
        rounds: number of rounds, of which medians are taken.

    Returns:
        For each different operation its name, how many there are of it in a step, its floating-point operations, and
        the seconds that it takes, in the order in which the model computes them.
    """
    _, found = products(model, shape)
    alike: dict[str, tuple[Product, int]] = {}
    for product in found:
        name = _name(product.equation)
        _, times = alike.get(name, (product, 0))
        alike[name] = (product, times + product.times)
    parts = [
        (name, part, times, operations(product.equation), _timer(function, *arrays))
        for name, (product, times) in alike.items()
        for part, function, arrays in _parts(product)
    ]
    seconds = [[timer() for *_, timer in parts] for _ in range(rounds)]
    return [
        {"operation": name, "part": part, "times": times, "flops": flops, "seconds": statistics.median(spent)}
        for (name, part, times, flops, _), *spent in zip(parts, *seconds, strict=True)
    ]


def _parts(product: Product) -> Iterator[tuple[str, Callable[..., Array], tuple[Array, ...]]]:
    """An operation and the gradients that training needs: names, functions and their arguments."""
    equation = product.equation
    random = np.random.default_rng(0)
    left, right, result = (
        jnp.asarray(random.standard_normal(v.aval.shape), v.aval.dtype)
        for v in (*equation.invars[:2], equation.outvars[0])
    )

    @ops.accelerate
    def forward(left: Array, right: Array) -> Array:
        y: Array = equation.primitive.bind(left, right, **equation.params)
        return y

    def gradient(which: int, left: Array, right: Array, g: Array) -> Array:
        given = (lambda x: forward(x, right), left) if which == 0 else (lambda x: forward(left, x), right)
        found: Array = jax.vjp(*given)[1](g)[0]
        return found

    yield "forward", forward, (left, right)
    for which, name in enumerate(("gradient of the input", "gradient of the kernel")):
        if product.factors[which]:
            yield name, functools.partial(gradient, which), (left, right, result)


def _timer(function: Callable[..., Array], *arrays: Array) -> Callable[[], float]:
    """A function that measures the median seconds of a call."""
    compiled = jax.jit(function).lower(*arrays).compile()
    compiled(*arrays).block_until_ready()

    def measured() -> float:
        spent: list[float] = []
        while len(spent) < _CALLS or sum(spent) < _SECONDS:
            start = time.perf_counter()
            compiled(*arrays).block_until_ready()
            spent.append(time.perf_counter() - start)
        return statistics.median(spent)

    return measured


def _name(equation: Any) -> str:
    """What an operation is, in the words of the field; equal names take equal time."""
    left, right = (v.aval.shape for v in equation.invars[:2])
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        return f"product of {_sides(left)} and {_sides(right)}"
    images, kernels, _ = numbers
    height, width = ([left[axis] for axis in images[2:]] + [1])[:2]
    params = equation.params
    groups, strides, dilation = (
        params[name] for name in ("feature_group_count", "window_strides", "rhs_dilation")
    )
    words = [
        f"convolution {_sides([right[axis] for axis in kernels[2:]])}",
        f"{left[images[1]]} → {right[kernels[0]]} channels",
        f"{left[images[0]]} images of {height}x{width}",
    ]
    words += [f"stride {max(strides)}"] if max(strides) > 1 else []
    words += [f"dilation {max(dilation)}"] if max(dilation) > 1 else []
    words += [f"{groups} groups"] if groups > 1 else []
    return ", ".join(words)


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
