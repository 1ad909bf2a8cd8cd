"""Count a model's parameters and operations by tracing it; nothing is computed.

``python -m dlbench.models.counting`` writes the table of the built-in models; with ``-`` it answers requests as
:mod:`dlbench.models.counts` sends them.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from dlbench import ops
from dlbench.models.counts import TABLE, Counts, Request
from dlbench.models.creation import create
from dlbench.models.network import Variables, network_of
from dlbench.models.sizes import least_side
from dlbench.spec.registry import MODELS

#: Height, width, channels and classes of the public data sets that have ten classes.
PUBLIC_IMAGES = (((28, 28, 1), 10), ((32, 32, 3), 10))


def count(model: Any, image_shape: Sequence[int]) -> Counts:
    """The counts of one image.

    dlbench's operations are traced in their plain form: what is counted is the network, not how it is computed
    here. XLA's own count differs: Winograd's algorithm halves the second layer of SimpleCNN, the packed first layer
    multiplies by zeros to be faster, and compiled kernels are not looked into. Activations, pooling, normalisation and
    the optimizer are not counted; they amount to a few percent.

    Args:
        model: a model as :func:`dlbench.models.creation.create` makes it.
        image_shape: height, width, channels.
    """
    parameters, traced = products(model, (1, *image_shape))
    forward = training = 0
    for equation, times, factors in traced:
        here = times * operations(equation)
        forward += here
        training += here * (1 + sum(factors))
    return Counts(parameters, forward, training)


def products(model: Any, shape: Sequence[int]) -> tuple[int, list[Product]]:
    """The number of parameters, and the convolutions and matrix products of a forward pass.

    Args:
        model: a model as :func:`dlbench.models.creation.create` makes it.
        shape: number of images, height, width, channels.
    """
    images = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
    key = jax.random.key(0)
    network = network_of(model)

    def logits(params: Any, others: Any, x: jax.Array) -> Any:
        return network.apply(Variables(params, others), x, {})

    with ops.lowered("lax"):
        keys = {"params": key, "dropout": key}
        params, others = jax.eval_shape(lambda x: network.init(keys, x, {}), images)
        traced = jax.make_jaxpr(logits)(params, others, images)
    leaves = jax.tree.leaves(params)
    given = [True] * len(leaves) + [False] * (len(traced.jaxpr.invars) - len(leaves))
    return sum(math.prod(leaf.shape) for leaf in leaves), list(_products(traced.jaxpr, given))


class Product(NamedTuple):
    """A convolution or matrix product of a traced function.

    Attributes:
        equation: the operation.
        times: how often it is computed.
        factors: which of its two factors depend on parameters, so that training computes their gradients.
    """

    equation: Any
    times: int
    factors: tuple[bool, ...]


def _products(jaxpr: Any, given: Sequence[bool]) -> Iterator[Product]:
    """The products of a traced function.

    Args:
        jaxpr: the function.
        given: which of its arguments depend on parameters.
    """
    depends = dict(zip(jaxpr.invars, given, strict=True))
    for equation in jaxpr.eqns:
        factors = [not isinstance(v, core.Literal) and depends.get(v, False) for v in equation.invars]
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield Product(equation, 1, tuple(factors[:2]))
        for inner, times, arguments in _inner(equation, factors):
            for each in _products(inner, arguments):
                yield each._replace(times=times * each.times)
        depends |= dict.fromkeys(equation.outvars, any(factors))


def operations(equation: Any) -> int:
    """Operations of a convolution or matrix product, two for each product."""
    left, right = (v.aval.shape for v in equation.invars[:2])
    products = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        products *= math.prod(left[axis] for axis in contracted)
    else:
        products *= math.prod(right) // right[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * int(products)


def _inner(equation: Any, factors: list[bool]) -> Iterator[tuple[Any, int, list[bool]]]:
    """The functions that an operation calls: how often, and which of their arguments depend on parameters.

    A carry of a loop counts as dependent where anything given to the loop is; of branches, which are alternatives, the
    last is counted; the body of a ``while`` once.
    """
    name, params = equation.primitive.name, equation.params
    called = [value for value in params.values() if isinstance(value, core.ClosedJaxpr | core.Jaxpr)]
    if name == "cond":
        called, factors = [params["branches"][-1]], factors[1:]
    elif name == "while":
        called = [params["body_jaxpr"]]
    for each in called[:1]:
        inner = each.jaxpr if isinstance(each, core.ClosedJaxpr) else each
        alike = name != "scan" and len(inner.invars) == len(factors)
        arguments = factors if alike else [any(factors)] * len(inner.invars)
        if name == "scan":
            # Constants, then carries, then what is cut into slices; by shape, since jax 0.11 renamed their numbers.
            sliced = _count_reshaped(inner.invars, equation.invars)
            num_carries = len(inner.outvars) - _count_reshaped(inner.outvars, equation.outvars)
            first = len(inner.invars) - sliced - num_carries
            arguments = list(factors)
            arguments[first : first + num_carries] = [any(factors)] * num_carries
        yield inner, params["length"] if name == "scan" else 1, arguments


def _count_reshaped(inner: Sequence[Any], outer: Sequence[Any]) -> int:
    return sum(a.aval.shape != b.aval.shape for a, b in zip(inner, outer, strict=True))


def table() -> dict[str, dict[str, dict[str, int]]]:
    """The counts of every built-in model with its default arguments, on the images of :data:`PUBLIC_IMAGES`."""
    counted: dict[str, dict[str, dict[str, int]]] = {}
    for name in MODELS.built_in:
        for shape, classes in PUBLIC_IMAGES:
            model = create(name, num_classes=classes)
            request = Request(name, (), shape, classes)
            counted.setdefault(name, {})[request.images] = asdict(count(model, shape))
    return counted


def answer(asked: dict[str, Any]) -> list[dict[str, int] | None]:
    """The counts that are asked for; the least side where images are too small, ``None`` for what cannot be counted."""
    sys.path.extend(path for path in asked["path"] if path not in sys.path)
    answers: list[dict[str, int] | None] = []
    for request in asked["requests"]:
        found = None
        with contextlib.suppress(Exception):  # a user's code may raise anything
            model = create(request["model"], request["num_classes"], **dict(request["arguments"]))
            least = least_side(model, request["image_shape"], request["num_classes"])
            found = {"least_side": least} if least else asdict(count(model, request["image_shape"]))
        answers.append(found)
    return answers


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        print(json.dumps(answer(json.load(sys.stdin))))
    else:
        TABLE.write_text(json.dumps(table(), indent=2) + "\n")
