"""Functions of jax as ONNX graphs: each operation of the traced function becomes a plain ONNX operator.

Whatever can be computed from parameters alone is computed here. Images stay in ONNX's order, channels first, from one
convolution to the next, and a product and a sum per channel after a convolution are folded into it. So a batch
normalisation costs nothing, however the network writes it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import export
from jax.extend import core
from numpy.typing import NDArray

from dlbench import ops
from dlbench.errors import InputError

#: The version of the operators, which runtimes of 2022 and later know.
OPSET = 17
#: Names of the graph's input and output.
INPUT, OUTPUT = "images", "logits"
#: Where ONNX has the axes N, H, W, C.
_CHANNELS_FIRST = (0, 2, 3, 1)
_NHWC_TO_NCHW, _NCHW_TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


@dataclass(frozen=True)
class Tensor:
    """A value of the traced function.

    Attributes:
        shape: its shape; the batch axis is symbolic.
        name: its name in the graph; empty for a constant.
        value: its value, if it is a constant.
        held: the shape that it has in the graph: 1 along axes that are still to be broadcast.
        channels_first: whether it is [N, C, H, W] in the graph.
        origin: how it came about, where pooling is recognised by that.
    """

    shape: tuple[Any, ...]
    name: str = ""
    value: Any = None
    held: tuple[Any, ...] = ()
    channels_first: bool = False
    origin: tuple[Any, ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether it does not depend on the images."""
        return not self.name


@dataclass
class Node:
    """An operator of the graph."""

    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


Handler = Callable[["Graph", Any, Sequence[Tensor]], Tensor]
_HANDLERS: dict[str, Handler] = {}


def _translates(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


class Graph:
    """A graph while it is made."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.matrices: set[str] = set()
        self._number = 0

    def emit(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add an operator; returns the name of its output."""
        self._number += 1
        name = f"{op.lower()}_{self._number}"
        self.nodes.append(Node(op, [*inputs], name, attributes))
        return name

    def constant(self, value: Any) -> str:
        """Add a constant; returns its name."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self._number += 1
        name = f"constant_{self._number}"
        self.constants[name] = array
        return name

    def integers(self, values: Sequence[int]) -> str:
        """Add a list of int64, as operators take shapes and axes."""
        return self.constant(np.array(values, np.int64))

    def named(self, tensor: Tensor, channels_first: bool = False, rank: int | None = None) -> str:
        """The name of a tensor in the order asked for, for operators that broadcast by themselves.

        Args:
            tensor: the tensor.
            channels_first: whether it is wanted as [N, C, H, W]; it then has four axes, or is a constant.
            rank: number of axes that a constant gets, by ones in front.
        """
        if tensor.is_constant:
            value = np.asarray(tensor.value)
            if channels_first:
                value = value.reshape((1,) * (4 - value.ndim) + value.shape) if value.ndim else value
                value = value.transpose(_NHWC_TO_NCHW) if value.ndim else value
            return self.constant(value)
        if tensor.channels_first == channels_first:
            return tensor.name
        return self.emit("Transpose", [tensor.name], perm=_NHWC_TO_NCHW if channels_first else _NCHW_TO_NHWC)

    def whole(self, tensor: Tensor, channels_first: bool = False) -> str:
        """The name of a tensor that has been broadcast to its shape."""
        name = self.named(tensor, channels_first)
        held = tuple(np.asarray(tensor.value).shape) if tensor.is_constant else tensor.held
        if held == tensor.shape:
            return name
        shape = self.shape(
            [tensor.shape[i] for i in (0, 3, 1, 2)] if channels_first else tensor.shape, reshape=False
        )
        return self.emit("Expand", [name, shape])

    def shape(self, sizes: Sequence[Any], reshape: bool = True) -> str:
        """A shape as a tensor of int64; the symbolic size is -1 for a reshape, else that of the images."""
        symbolic = [n for n, size in enumerate(sizes) if not isinstance(size, int)]
        if len(symbolic) > 1:
            raise _Untranslatable("a shape with the batch in several axes")
        if reshape or not symbolic:
            return self.integers([size if isinstance(size, int) else -1 for size in sizes])
        batch = self.emit(
            "Slice", [self.emit("Shape", [INPUT]), self.integers([0]), self.integers([1]), self.integers([0])]
        )
        before, after = sizes[: symbolic[0]], sizes[symbolic[0] + 1 :]
        parts = [self.integers(before)] if before else []
        parts += [batch, *([self.integers(after)] if after else [])]
        return self.emit("Concat", parts, axis=0) if len(parts) > 1 else batch


class _Untranslatable(Exception):  # noqa: N818
    """An operation that has no ONNX operator here."""


def to_onnx(function: Callable[[Any], Any], image_shape: tuple[int, int, int], producer: str) -> bytes:
    """Translate a function from images to logits.

    Args:
        function: float32 [N, H, W, C] → float32 [N, num_classes], pure; N is free.
        image_shape: height, width, channels.
        producer: the version of the program that writes the file.

    Returns:
        The bytes of an ONNX model, with the input "images" and the output "logits".

    Raises:
        InputError: the function has an operation that cannot be translated.
    """
    (batch,) = export.symbolic_shape("N")
    images = jax.ShapeDtypeStruct((batch, *image_shape), np.float32)
    with ops.lowered("lax"):
        traced = jax.make_jaxpr(function)(images)
    graph = Graph()
    given = Tensor(images.shape, INPUT, held=images.shape)
    try:
        (logits,) = _walk(graph, traced.jaxpr, [_constant(value) for value in traced.consts], [given])
        result = graph.whole(logits)
    except _Untranslatable as error:
        raise InputError(
            f"the model has {error}, which cannot be written as ONNX",
            field="to",
            value="onnx",
            remedy="export it to stablehlo",
        ) from None
    graph.nodes.append(Node("Identity", [result], OUTPUT, {}))
    _fold(graph)
    (logits_aval,) = traced.out_avals
    return _serialised(graph, image_shape, int(logits_aval.shape[1]), producer)


def _constant(value: Any) -> Tensor:
    return Tensor(tuple(np.shape(value)), value=value)


def _walk(graph: Graph, jaxpr: Any, consts: Sequence[Tensor], arguments: Sequence[Tensor]) -> list[Tensor]:
    """Translate the equations of a jaxpr; returns its results."""
    known: dict[Any, Tensor] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Tensor:
        kind: Any = atom.aval
        return _constant(np.asarray(atom.val, kind.dtype)) if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        known |= zip(equation.outvars, _translated(graph, equation, inputs), strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _translated(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    name = equation.primitive.name
    inner = next((v for v in equation.params.values() if isinstance(v, core.ClosedJaxpr)), None)
    pools = name == "custom_vjp_call" and inputs[0].origin[:1] == ("positions",)
    if pools and inner and all(each.primitive.name != "min" for each in inner.jaxpr.eqns):
        return [_max_pool(graph, inputs[0].origin[1], (2, 2), (2, 2), ((0, 0), (0, 0)))]
    if inner is not None and name in (
        "jit",
        "pjit",
        "custom_jvp_call",
        "custom_vjp_call",
        "closed_call",
        "remat2",
    ):
        return _walk(graph, inner.jaxpr, [_constant(value) for value in inner.consts], inputs)
    free = all(isinstance(size, int) for var in equation.outvars for size in var.aval.shape)
    if free and all(tensor.is_constant for tensor in inputs):
        values = [
            tensor.value
            if np.shape(tensor.value) == tensor.shape
            else np.broadcast_to(tensor.value, tensor.shape)
            for tensor in inputs
        ]
        found = equation.primitive.bind(*values, **equation.params)
        return [_constant(value) for value in (found if equation.primitive.multiple_results else [found])]
    if name not in _HANDLERS or len(equation.outvars) != 1:
        raise _Untranslatable(f"the operation {name}")
    return [_HANDLERS[name](graph, equation, inputs)]


# Element by element.

_SAME = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "exp": "Exp",
    "log": "Log",
    "neg": "Neg",
    "sqrt": "Sqrt",
    "erf": "Erf",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "lt": "Less",
    "gt": "Greater",
    "le": "LessOrEqual",
    "ge": "GreaterOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
}


def _each(
    graph: Graph, equation: Any, inputs: Sequence[Tensor], op: Callable[[list[str]], str] | str
) -> Tensor:
    """An operator that works element by element, in whichever order its operands are."""
    shape = equation.outvars[0].aval.shape
    first = len(shape) == 4 and any(tensor.channels_first for tensor in inputs)
    if not first and len(shape) == 4 and any(len(t.shape) not in (0, 4) for t in inputs):
        raise _Untranslatable("operands of different rank")
    names = [graph.named(tensor, first) for tensor in inputs]
    name = graph.emit(op, names) if isinstance(op, str) else op(names)
    helds = [np.shape(t.value) if t.is_constant else t.held for t in inputs]
    held = tuple(
        next((size for size in sizes if not (isinstance(size, int) and size == 1)), 1)
        for sizes in zip(*(each for each in helds if len(each) == len(shape)), strict=True)
    )
    return Tensor(shape, name, held=held or shape, channels_first=first)


@_translates(*_SAME)
def _same(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    name = equation.primitive.name
    if name == "max" and any(
        t.is_constant and not np.any(np.asarray(t.value)) and np.size(t.value) == 1 for t in inputs
    ):
        return _each(graph, equation, [t for t in inputs if not t.is_constant], "Relu")
    return _each(graph, equation, inputs, _SAME[name])


@_translates("stop_gradient", "copy", "copy_p", "optimization_barrier")
def _identity(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0]


@_translates("rsqrt")
def _rsqrt(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    return _each(graph, equation, inputs, lambda names: graph.emit("Reciprocal", [graph.emit("Sqrt", names)]))


@_translates("square")
def _square(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    return _each(graph, equation, inputs, lambda names: graph.emit("Mul", names * 2))


@_translates("integer_pow")
def _integer_pow(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    exponent = graph.constant(np.float32(equation.params["y"]))
    return _each(graph, equation, inputs, lambda names: graph.emit("Pow", [*names, exponent]))


@_translates("clamp")
def _clamp(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    low, x, high = inputs
    bounds = [graph.named(low), graph.named(high)]
    return _each(graph, equation, [x], lambda names: graph.emit("Clip", [*names, *bounds]))


@_translates("select_n")
def _select(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    if len(inputs) != 3:
        raise _Untranslatable("a choice between more than two values")
    which, no, yes = inputs
    return _each(graph, equation, [which, yes, no], "Where")


@_translates("convert_element_type")
def _convert(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
    return _each(graph, equation, inputs, lambda names: graph.emit("Cast", names, to=kind))


# Shapes.


@_translates("broadcast_in_dim")
def _broadcast(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    """Axes of size 1 now, which operators broadcast when they need it."""
    (x, *_), shape = inputs, equation.outvars[0].aval.shape
    places = equation.params["broadcast_dimensions"]
    if x.is_constant:
        small = [1] * len(shape)
        for place, size in zip(places, np.shape(x.value), strict=True):
            small[place] = size
        return Tensor(shape, value=np.reshape(np.asarray(x.value), small))
    held: list[Any] = [1] * len(shape)
    for place, size in zip(places, x.held, strict=True):
        held[place] = size
    if tuple(places) == tuple(range(len(shape))):
        return Tensor(shape, x.name, held=tuple(held), channels_first=x.channels_first)
    name = graph.emit("Reshape", [graph.named(x), graph.shape(held)])
    return Tensor(shape, name, held=tuple(held), origin=x.origin if shape == (1, *x.shape) else ())


@_translates("reshape", "squeeze", "expand_dims")
def _reshape(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    x, shape = inputs[0], equation.outvars[0].aval.shape
    if x.shape == shape:
        return x
    name = graph.emit("Reshape", [graph.whole(x), graph.shape(shape)])
    windows = len(x.shape) == 4 and shape == (
        x.shape[0],
        x.shape[1] // 2,
        2,
        x.shape[2] // 2,
        2,
        x.shape[3],
    )
    return Tensor(shape, name, held=shape, origin=("windows", x) if windows else ())


@_translates("transpose")
def _transpose(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    shape = equation.outvars[0].aval.shape
    name = graph.emit("Transpose", [graph.whole(inputs[0])], perm=[*map(int, equation.params["permutation"])])
    return Tensor(shape, name, held=shape)


@_translates("concatenate")
def _concatenate(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    shape, axis = equation.outvars[0].aval.shape, equation.params["dimension"]
    first = any(tensor.channels_first for tensor in inputs)
    names = [graph.whole(tensor, first) for tensor in inputs]
    name = graph.emit("Concat", names, axis=_CHANNELS_FIRST[axis] if first else axis)
    return Tensor(
        shape, name, held=shape, channels_first=first, origin=_positions(inputs) if axis == 0 else ()
    )


@_translates("stack")
def _stack(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    shape, axis = equation.outvars[0].aval.shape, equation.params["axis"]
    one = graph.integers([axis])
    names = [graph.emit("Unsqueeze", [graph.whole(tensor), one]) for tensor in inputs]
    origin = _positions(inputs) if axis == 0 else ()
    return Tensor(shape, graph.emit("Concat", names, axis=axis), held=shape, origin=origin)


def _positions(parts: Sequence[Tensor]) -> tuple[Any, ...]:
    """The images whose 2x2 windows these are the four positions of, in order; empty if they are not."""
    origins = [part.origin for part in parts]
    if any(origin[:1] != ("window",) for origin in origins):
        return ()
    sources = {id(origin[1]) for origin in origins}
    in_order = [origin[2] for origin in origins] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    return ("positions", origins[0][1]) if len(sources) == 1 and in_order else ()


@_translates("tile")
def _tile(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    x, shape = inputs[0], equation.outvars[0].aval.shape
    if any(size != 1 and times != 1 for size, times in zip(x.shape, equation.params["reps"], strict=True)):
        raise _Untranslatable("a repetition of an axis")
    return Tensor(shape, x.name, x.value, x.held, x.channels_first)


def _sliced(
    graph: Graph, x: Tensor, ranges: Mapping[int, tuple[int, int, int]], shape: tuple[Any, ...]
) -> Tensor:
    """Some axes of a tensor cut to start, end and step."""
    first = x.channels_first
    axes = [_CHANNELS_FIRST[axis] if first else axis for axis in ranges]
    starts, ends, steps = zip(*ranges.values(), strict=True)
    name = graph.emit(
        "Slice", [graph.whole(x, first), *(graph.integers(v) for v in (starts, ends, axes, steps))]
    )
    return Tensor(shape, name, held=shape, channels_first=first)


@_translates("slice")
def _slice(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    x, shape, params = inputs[0], equation.outvars[0].aval.shape, equation.params
    steps = params["strides"] or (1,) * len(x.shape)
    ranges = {
        axis: (int(start), int(end), int(step))
        for axis, (start, end, step, size) in enumerate(
            zip(params["start_indices"], params["limit_indices"], steps, x.shape, strict=True)
        )
        if not (start == 0 and end == size and step == 1)
    }
    return _sliced(graph, x, ranges, shape) if ranges else x


@_translates("gather")
def _gather(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    """Basic indexing, which jax writes as a gather: rows of equal distance of some axes, or one of them."""
    x, places = inputs
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape = equation.outvars[0].aval.shape
    if not places.is_constant or numbers.operand_batching_dims:
        raise _Untranslatable("an index that depends on the images")
    indices = np.asarray(places.value)
    ranges: dict[int, tuple[int, int, int]] = {}
    used: list[int] = []
    for number, axis in enumerate(numbers.start_index_map):
        column = indices[..., number]
        varies = [n for n in range(column.ndim) if np.ptp(column, axis=n).any()]
        used += varies
        line = (
            np.moveaxis(column, varies[0], 0).reshape(column.shape[varies[0]], -1)[:, 0]
            if varies
            else column.ravel()[:1]
        )
        step = int(line[1] - line[0]) if len(line) > 1 else 1
        collapsed = axis in numbers.collapsed_slice_dims
        if len(varies) > 1 or step < 1 or (np.diff(line) != step).any() or (varies and not collapsed):
            raise _Untranslatable("an index that is no slice")
        length = len(line) if collapsed else int(sizes[axis])
        ranges[axis] = (int(line[0]), int(line[0]) + (length - 1) * step + 1, step)
    dropped = [axis for axis in numbers.collapsed_slice_dims if ranges[axis][1] - ranges[axis][0] == 1]
    kept = [axis for axis in range(len(x.shape)) if axis not in dropped]
    natural = tuple(place for place, axis in enumerate(kept) if axis not in numbers.collapsed_slice_dims)
    if (
        used != sorted(used)
        or natural != tuple(numbers.offset_dims)
        or any(axis not in ranges and sizes[axis] != x.shape[axis] for axis in range(len(x.shape)))
    ):
        raise _Untranslatable("an index that moves axes")
    before = tuple(len(range(*ranges[axis])) if axis in ranges else size for axis, size in enumerate(x.shape))
    cut = _sliced(graph, x, ranges, before)
    if before == shape:
        return cut
    name = graph.emit("Reshape", [graph.named(cut), graph.shape(shape)])
    window = x.origin[:1] == ("windows",) and [*ranges] == [2, 4] and dropped == [2, 4]
    place = (ranges[2][0], ranges[4][0]) if window else ()
    return Tensor(shape, name, held=shape, origin=("window", x.origin[1], place) if window else ())


@_translates("pad")
def _pad(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x, fill), shape = inputs, equation.outvars[0].aval.shape
    config = [tuple(map(int, each)) for each in equation.params["padding_config"]]
    if any(low < 0 or high < 0 or inside for low, high, inside in config) or not fill.is_constant:
        raise _Untranslatable("a padding that cuts or spreads")
    if x.channels_first:
        config = [config[axis] for axis in _NHWC_TO_NCHW]
    pads = graph.integers([each[0] for each in config] + [each[1] for each in config])
    name = graph.emit("Pad", [graph.whole(x, x.channels_first), pads, graph.named(fill)], mode="constant")
    return Tensor(shape, name, held=shape, channels_first=x.channels_first)


# Sums, products, convolutions.


@_translates("reduce_sum", "reduce_max", "reduce_min")
def _reduce(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    x, shape = inputs[0], equation.outvars[0].aval.shape
    axes = [*map(int, equation.params["axes"])]
    first = x.channels_first and {*axes} >= {1, 2}  # what is left has the same order either way
    name = graph.whole(x, first)
    axes = sorted(_CHANNELS_FIRST[axis] for axis in axes) if first else axes
    if equation.primitive.name == "reduce_sum":
        made = graph.emit("ReduceSum", [name, graph.integers(axes)], keepdims=0)
    else:
        op = "ReduceMax" if equation.primitive.name == "reduce_max" else "ReduceMin"
        made = graph.emit(op, [name], axes=axes, keepdims=0)
    return Tensor(shape, made, held=shape)


@_translates("dot_general")
def _dot(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x, kernel), shape = inputs, equation.outvars[0].aval.shape
    (ours, theirs), (batch, _) = equation.params["dimension_numbers"]
    plain = not batch and kernel.is_constant and len(kernel.shape) == 2 and tuple(ours) == (len(x.shape) - 1,)
    if not plain:
        return _einsum(graph, equation, inputs)
    matrix = np.asarray(kernel.value) if tuple(theirs) == (0,) else np.asarray(kernel.value).T
    if x.channels_first:
        weights = graph.constant(matrix.T[:, :, None, None])
        return Tensor(
            shape, graph.emit("Conv", [graph.whole(x, True), weights]), held=shape, channels_first=True
        )
    name = graph.emit("MatMul", [graph.whole(x), graph.constant(matrix)])
    if len(x.shape) == 2:
        graph.matrices.add(name)
    return Tensor(shape, name, held=shape)


def _einsum(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    """A product of tensors with shared and summed axes."""
    left, right = inputs
    (ours, theirs), (batch, their_batch) = equation.params["dimension_numbers"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first = [next(letters) for _ in left.shape]
    second = [next(letters) for _ in right.shape]
    for mine, other in zip((*ours, *batch), (*theirs, *their_batch), strict=True):
        second[other] = first[mine]
    result = [first[n] for n in batch]
    result += [each for n, each in enumerate(first) if n not in (*ours, *batch)]
    result += [each for n, each in enumerate(second) if n not in (*theirs, *their_batch)]
    text = f"{''.join(first)},{''.join(second)}->{''.join(result)}"
    shape = equation.outvars[0].aval.shape
    return Tensor(
        shape, graph.emit("Einsum", [graph.whole(left), graph.whole(right)], equation=text), held=shape
    )


@_translates("conv_general_dilated")
def _conv(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x, kernel), shape, params = inputs, equation.outvars[0].aval.shape, equation.params
    numbers = params["dimension_numbers"]
    known = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (
        (0, 3, 1, 2),
        (3, 2, 0, 1),
        (0, 3, 1, 2),
    )
    if (
        not known
        or not kernel.is_constant
        or params["batch_group_count"] != 1
        or {*params["lhs_dilation"]} != {1}
    ):
        raise _Untranslatable("a convolution of another kind")
    (top, bottom), (left, right) = params["padding"]
    weights = graph.constant(np.asarray(kernel.value).transpose(3, 2, 0, 1))
    name = graph.emit(
        "Conv",
        [graph.whole(x, True), weights],
        strides=[*map(int, params["window_strides"])],
        dilations=[*map(int, params["rhs_dilation"])],
        group=int(params["feature_group_count"]),
        pads=[int(top), int(left), int(bottom), int(right)],
    )
    return Tensor(shape, name, held=shape, channels_first=True)


@_translates("reduce_window_max", "reduce_window_sum")
def _pool(graph: Graph, equation: Any, inputs: Sequence[Tensor]) -> Tensor:
    params = equation.params
    window, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    dilated = {*params["base_dilation"], *params["window_dilation"]} != {1}
    if len(window) != 4 or window[0] != 1 or window[3] != 1 or dilated:
        raise _Untranslatable("a pooling of another kind")
    if equation.primitive.name == "reduce_window_max":
        return _max_pool(graph, inputs[0], window[1:3], strides[1:3], padding[1:3])
    shape = equation.outvars[0].aval.shape
    attributes = _window(window[1:3], strides[1:3], padding[1:3])
    mean = graph.emit("AveragePool", [graph.whole(inputs[0], True)], count_include_pad=1, **attributes)
    name = graph.emit("Mul", [mean, graph.constant(np.float32(math.prod(window)))])
    return Tensor(shape, name, held=shape, channels_first=True)


def _window(
    window: Sequence[int], strides: Sequence[int], padding: Sequence[Sequence[int]]
) -> dict[str, Any]:
    (top, bottom), (left, right) = padding
    pads = [*map(int, (top, left, bottom, right))]
    return {"kernel_shape": [*map(int, window)], "strides": [*map(int, strides)], "pads": pads}


def _max_pool(
    graph: Graph, x: Tensor, window: Sequence[int], strides: Sequence[int], padding: Sequence[Sequence[int]]
) -> Tensor:
    name = graph.emit("MaxPool", [graph.whole(x, True)], **_window(window, strides, padding))
    sides = (
        (size + sum(pads) - side) // step + 1
        for size, side, step, pads in zip(x.shape[1:3], window, strides, padding, strict=True)
    )
    shape = (x.shape[0], *sides, x.shape[3])
    return Tensor(shape, name, held=shape, channels_first=True)


# The finished graph.


def _fold(graph: Graph) -> None:
    """Fold products and sums per channel into the convolution before them, and sums into matrix products."""
    made = {node.output: node for node in graph.nodes}
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        if node.op not in ("Add", "Mul", "Sub"):
            continue
        source, value = node.inputs
        if source in graph.constants and node.op != "Sub":
            source, value = value, source
        before = made.get(source)
        if before is None or uses[source] != 1 or value not in graph.constants:
            continue
        constant = graph.constants[value]
        weights = graph.constants.get(before.inputs[1]) if len(before.inputs) > 1 else None
        if weights is None or (
            constant.size > 1 and constant.size != constant.shape[min(1, constant.ndim - 1)]
        ):
            continue
        if before.op == "Conv":
            row = np.broadcast_to(constant.ravel(), weights.shape[:1]).astype(np.float32)
            bias = graph.constants[before.inputs[2]] if len(before.inputs) > 2 else np.zeros_like(row)
            if node.op == "Mul":
                weights, bias = weights * row[:, None, None, None], bias * row
            else:
                bias = bias + (row if node.op == "Add" else -row)
            before.inputs[1:] = [graph.constant(weights), graph.constant(bias)]
        elif before.op == "MatMul" and before.output in graph.matrices and node.op == "Add":
            row = np.broadcast_to(constant.ravel(), weights.shape[1:]).astype(np.float32)
            before.op, before.inputs = "Gemm", [*before.inputs, graph.constant(row)]
        else:
            continue
        renamed[node.output] = source
        uses[source] = uses[node.output]
    wanted = {OUTPUT}
    kept = []
    for node in reversed(graph.nodes):
        if node.output in wanted and node.output not in renamed:
            kept.append(node)
            wanted |= {*node.inputs}
    graph.nodes = kept[::-1]
    graph.constants = {name: value for name, value in graph.constants.items() if name in wanted}


def _serialised(graph: Graph, image_shape: tuple[int, int, int], num_classes: int, producer: str) -> bytes:
    import onnx

    for value in graph.constants.values():
        if value.dtype not in (np.float32, np.int32, np.int64, np.bool_):
            raise InputError(
                f"the model computes in {value.dtype}, which cannot be written as ONNX here",
                field="to",
                value="onnx",
                remedy="export it to stablehlo",
            )
    helper = onnx.helper
    made = helper.make_graph(
        [helper.make_node(n.op, n.inputs, [n.output], name=n.output, **n.attributes) for n in graph.nodes],
        "dlbench",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["N", *image_shape])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["N", num_classes])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in graph.constants.items()],
    )
    model = helper.make_model(
        made,
        producer_name="dlbench",
        producer_version=producer,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised
