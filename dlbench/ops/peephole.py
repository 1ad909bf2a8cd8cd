"""Convolution, bias, ReLU and 2x2 max pooling of a traced function as one operation, on a CPU with compiled kernels.

A model that calls jax's layers one after the other writes the whole result of a convolution, only to keep a quarter of
it. Wherever its jaxpr has such a chain, with channels last and with nothing else that reads what lies between,
:func:`accelerate` puts the operation of :mod:`dlbench.ops.pooled` in its place, which never writes it. ReLU never
decreases, so it is applied after pooling, with the same result and the same gradient.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from dlbench.ops import implicit_gemm, pooled
from dlbench.ops.standing_in import accelerated

#: The name of :func:`dlbench.ops.pooling.max_windows` in a jaxpr.
_POOL = "max_windows"


class _Chain(NamedTuple):
    """Operations that one can replace: ``pool(relu(convolution + bias))``, or without ReLU or bias.

    Attributes:
        convolution: the convolution.
        bias: what is added to it, as an operand; None for nothing.
        has_relu: whether there is ReLU.
        pool: the pooling.
        links: the variables between them.
    """

    convolution: JaxprEqn
    bias: Any
    has_relu: bool
    pool: JaxprEqn
    links: tuple[Any, ...]


def accelerate(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with fast convolutions and pooling, on a CPU with compiled kernels.

    It is computed as :mod:`dlbench.ops.standing_in` says, with chains of operations fused. On other devices, and
    without kernels, nothing changes.

    Args:
        function: of trees of arrays to a tree of arrays, such as a model's ``apply``. Use it inside ``jit``: it is
            traced anew in each call.

    Returns:
        The function, which can be transformed by ``jit``, ``grad`` and ``vmap`` as any other.
    """

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        with accelerated() as active:
            if not active:
                return function(*args)
            closed, results = jax.make_jaxpr(function, return_shape=True)(*args)
            flat = jaxpr_as_fun(_fused(closed))(*jax.tree.leaves(args))
            return jax.tree.unflatten(jax.tree.structure(results), flat)

    return call


def _fused(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The same computation with one operation for each chain that the kernels cover."""
    made = [(chain, _operation(chain)) for chain in _chains(closed.jaxpr)]
    replaced = {chain.pool.outvars[0]: operation for chain, operation in made if operation is not None}
    links = {link for chain, operation in made if operation is not None for link in chain.links}
    if not replaced:
        return closed
    eqns = [
        replaced.get(eqn.outvars[0], eqn) if eqn.outvars else eqn
        for eqn in closed.jaxpr.eqns
        if links.isdisjoint(eqn.outvars)
    ]
    return ClosedJaxpr(closed.jaxpr.replace(eqns=eqns), closed.consts)


def _chains(jaxpr: Jaxpr) -> list[_Chain]:
    defined = {variable: eqn for eqn in jaxpr.eqns for variable in eqn.outvars}
    operands = [*jaxpr.outvars, *(operand for eqn in jaxpr.eqns for operand in eqn.invars)]
    uses = Counter(operand for operand in operands if not isinstance(operand, Literal))

    def before(operand: Any) -> JaxprEqn | None:
        """The operation that defines an operand which nothing else reads."""
        return None if isinstance(operand, Literal) or uses[operand] != 1 else defined.get(operand)

    chains = []
    for pool in jaxpr.eqns:
        if pool.params.get("name") != _POOL:
            continue
        bias, links = None, [pool.invars[0]]
        eqn = before(links[-1])
        if has_relu := eqn is not None and _is_relu(eqn):
            links += eqn.invars
            eqn = before(links[-1])
        if eqn is not None and eqn.primitive is lax.add_p:
            convolved = next((each for each in eqn.invars if _is_convolution(before(each))), None)
            if convolved is None:
                continue
            links.append(convolved)
            bias = next(each for each in eqn.invars if each is not convolved)
            eqn = before(convolved)
        if eqn is not None and _is_convolution(eqn):
            chains.append(_Chain(eqn, bias, has_relu, pool, tuple(links)))
    return chains


def _is_convolution(eqn: JaxprEqn | None) -> bool:
    return eqn is not None and eqn.primitive is implicit_gemm.convolution


def _is_relu(eqn: JaxprEqn) -> bool:
    """Whether this is ``jax.nn.relu``, whose gradient at 0 is 0: the function in one with a derivative of its own."""
    outer = eqn.params.get("call_jaxpr")
    if outer is None or len(outer.eqns) != 1 or outer.eqns[0].params.get("name") != jax.nn.relu.__name__:
        return False
    return [each.primitive for each in outer.eqns[0].params["jaxpr"].eqns] == [lax.max_p]


def _operation(chain: _Chain) -> JaxprEqn | None:
    """The operation in place of a chain; None if the kernels do not cover it."""
    geometry = chain.convolution.params["geometry"]
    operands: list[Any] = [*chain.convolution.invars, *([] if chain.bias is None else [chain.bias])]
    shapes: list[Any] = [jax.ShapeDtypeStruct(each.aval.shape, each.aval.dtype) for each in operands]
    x, kernel, *bias = shapes
    channels = kernel.shape[-1]
    if (
        {*geometry.strides, *geometry.dilation, geometry.groups} != {1}
        or min(map(min, geometry.pads)) < 0
        or not pooled.supports(x, kernel)
        or any(each.shape != (1, 1, 1, channels) for each in bias)
    ):
        return None

    def compute(x: Array, kernel: Array, *bias: Array) -> Array:
        offset = bias[0].reshape(channels) if bias else jnp.zeros(channels, x.dtype)
        y: Array = pooled.conv_pool(x, kernel, offset, geometry.pads, None)
        return jax.nn.relu(y) if chain.has_relu else y

    (operation,) = jax.make_jaxpr(jax.jit(compute))(*shapes).eqns
    placed: JaxprEqn = operation.replace(invars=operands, outvars=chain.pool.outvars)
    return placed
