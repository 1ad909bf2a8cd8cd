"""Start networks without compiling their initialisation: one small program draws the numbers of all of them.

Under threefry everything random is one hash of a key and a counter: ``hash(key, n)`` is the key folded with n and the
n-th key of a split, and its two words, one XOR the other, are the n-th 32 random bits. Initialisation is traced as
ever, and its jaxpr is read: each array that it returns has to be constant, or elementwise in the bits of a key to which
counters lead from one of the trial's keys. The values of such arrays are drawn in blocks, by a program that belongs to
their formula (uniform, say) and takes the numbers in it as arguments, so that layers and networks share it. XLA is
given the operations of a value as they are, so its bits are those of the whole initialisation as one program. That is
compiled for everything else: other ways to draw, lanes, other devices.

From an empty cache, the five networks of ``compare-archs`` start after 0.5 seconds of compiling and tracing on a core,
which took 5.8 of the 32 seconds that all their functions took.

References: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (threefry); ``jax.random`` with
``jax_threefry_partitionable`` (counters).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, Primitive
from numpy.typing import NDArray

from dlbench.execution.compiling import Build
from dlbench.training import loop
from dlbench.training.state import Data, Hyper, Keys, Static, TrainState

#: Values of a block, and the most blocks that a program draws at a time: 1 MB of float32.
BLOCK, BLOCKS = 4096, 64
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_WORD = 0xFFFFFFFF
#: Primitives whose result has one value for each value of an operand, the others being one number each.
_ELEMENTWISE = frozenset(
    """abs add and bitcast_convert_type clamp convert_element_type copy cos div eq erf erf_inv exp expm1 ge gt
    integer_pow le log log1p lt max min mul ne neg nextafter not or pow round rsqrt select_n shift_left
    shift_right_logical sign sin sqrt square stop_gradient sub tan tanh xor""".split()  # noqa: SIM905
)
#: Those of them that NumPy computes as XLA does, in one step.
_EXACT: dict[str, Callable[..., Any]] = {"add": np.add, "sub": np.subtract, "mul": np.multiply}
#: Primitives whose float constants are arguments of a program. XLA merges the constants of two in a row that are of one
#: kind, x * a * b, before it rounds, so these stay where they are; so do 0, 1 and -1, for which compilers have rules.
_KIND = {"add": "sum", "sub": "sum", "mul": "product", "div": "product", "max": "bound", "min": "bound"}
_LIFTED = ("add", "sub", "mul", "max", "min")

Path = tuple[int, ...]
"""A key: the position of one among the inputs, and the counters that lead from it."""


@dataclass(frozen=True)
class Bits:
    """32 random bits: the leaf of a formula that differs from value to value."""


@dataclass(frozen=True)
class Constant:
    """A scalar."""

    dtype: np.dtype[Any]
    content: bytes

    @classmethod
    def of(cls, value: Any) -> Constant:
        """A constant of a NumPy scalar."""
        return cls(value.dtype, value.tobytes())

    @property
    def value(self) -> Any:
        """The NumPy scalar."""
        return np.frombuffer(self.content, self.dtype)[0]


@dataclass(frozen=True)
class Operation:
    """A primitive of a value, with parameters."""

    primitive: Primitive
    params: tuple[tuple[str, Any], ...]
    operands: tuple[Formula, ...]


#: How a value follows from its bits. A number is the place of a constant that is an argument.
Formula = Bits | Constant | Operation | int


@dataclass(frozen=True)
class Drawn:
    """An array whose values follow from the bits of a key, in order; without a key, from constants alone."""

    key: Path | None
    shape: tuple[int, ...]
    formula: Formula


@dataclass(frozen=True)
class Reading:
    """What initialisation does, as read from its jaxpr: each of its results, and their shapes as a tree."""

    outputs: tuple[Any, ...]
    state: TrainState

    @functools.cached_property
    def draws(self) -> dict[Formula, list[tuple[Drawn, list[Any]]]]:
        """The arrays to draw, each with its numbers, by the formula that they share."""
        found: dict[Formula, list[tuple[Drawn, list[Any]]]] = {}
        for drawn in dict.fromkeys(each for each in self.outputs if isinstance(each, Drawn)):
            numbers: list[Any] = []
            found.setdefault(_lifted(drawn.formula, numbers), []).append((drawn, numbers))
        return found


def prepare(
    build: Build, part: Static, axes: Sequence[Any], data: Data, keys: Keys, hyper: Hyper, **options: Any
) -> tuple[Callable[[Data, Keys, Hyper], TrainState], TrainState]:
    """:func:`dlbench.training.loop.init` for a static part, without a program of its own where possible.

    Args:
        build: compiles.
        part: the static part.
        axes: the lane axis of each argument.
        data: what initialisation is given of the data.
        keys: the keys.
        hyper: the hyper-parameters.
        options: options of the compiler.

    Returns:
        A function of data, keys and hyper-parameters; the shapes of the state that it returns.
    """
    config: Any = jax.config
    if build.lanes == 1 and jax.default_backend() == "cpu" and config.jax_threefry_partitionable:
        read = functools.partial(_read, functools.partial(loop.init, part), data, keys, hyper)
        reading: Reading | None = build.once(read, (_read, part), data, keys, hyper)
        if reading is not None:
            return _drawing(build, reading), reading.state
    whole = build(loop.init, part, axes, data, keys, hyper, **options)
    return whole, whole.out_info


def _drawing(build: Build, reading: Reading) -> Callable[..., TrainState]:
    """Initialisation by programs that draw."""
    plans = [_Plan(build, formula, arrays) for formula, arrays in reading.draws.items()]
    arrays = [drawn for each in reading.draws.values() for drawn, _ in each]
    place = {drawn: n for n, drawn in enumerate(arrays)}
    held = [place[x] if isinstance(x, Drawn) else jax.device_put(x.copy()) for x in reading.outputs]
    used = {drawn.key[0] for drawn in arrays if drawn.key}
    structure = jax.tree.structure(reading.state)

    def init(*arguments: Any) -> TrainState:
        leaves = jax.tree.leaves(arguments)
        roots = {number: np.asarray(jax.random.key_data(leaves[number])).tolist() for number in used}
        drawn = jax.device_put([array for plan in plans for array in plan.draw(roots)])
        made = [drawn[each] if isinstance(each, int) else each for each in held]
        state: TrainState = jax.tree.unflatten(structure, made)
        return state

    return init


class _Plan:
    """Draws the arrays of one formula by one program.

    Args:
        build: compiles the program.
        formula: the formula.
        arrays: the arrays, with their numbers.
    """

    def __init__(self, build: Build, formula: Formula, arrays: Sequence[tuple[Drawn, Sequence[Any]]]) -> None:
        self._arrays = [drawn for drawn, _ in arrays]
        counts = [-(-math.prod(each.shape) // BLOCK) for each in self._arrays]
        size = min(BLOCKS, 1 << (sum(counts) - 1).bit_length())  # few sizes, so that networks share programs
        whole = -(-sum(counts) // size) * size  # blocks beyond the last are drawn, and not used
        array = np.resize(np.repeat(np.arange(len(counts)), counts), whole)
        first = np.resize(np.concatenate([np.arange(count) for count in counts]), whole) * BLOCK
        numbers = np.array([own for _, own in arrays], np.float32)[array].T
        parts = [slice(start, start + size) for start in range(0, whole, size)]
        self._blocks = [(array[part], first[part].astype(np.uint32), numbers[:, part]) for part in parts]
        self._starts = [sum(counts[:n]) * BLOCK for n in range(len(counts))]
        words = jax.ShapeDtypeStruct((size,), jnp.uint32)
        self._call = build(_program(formula), None, (), words, words, *self._blocks[0][1:])

    def draw(self, roots: Mapping[int, tuple[int, int]]) -> list[NDArray[Any]]:
        """The arrays, from the two words of each key among the inputs."""
        keys = np.array([_key(each.key or (), roots) for each in self._arrays], np.uint32).T
        made = [self._call(*keys[:, array], first, numbers) for array, first, numbers in self._blocks]
        values = np.concatenate([np.asarray(each) for each in made]).reshape(-1)
        places = zip(self._starts, self._arrays, strict=True)
        return [values[start : start + math.prod(each.shape)].reshape(each.shape) for start, each in places]


def _key(path: Path, roots: Mapping[int, tuple[int, int]]) -> tuple[int, int]:
    """The two words of a key."""
    first, second = roots[path[0]]
    for counter in path[1:]:
        first, second = threefry(first, second, counter)
    return first, second


def threefry(first: Any, second: Any, counter: Any, word: Any = _WORD) -> tuple[Any, Any]:
    """Threefry-2x32 with 20 rounds, of two words of a key and a counter, each of 32 bits.

    They are integers, or arrays of uint32; ``word`` is the largest such integer, of their type.
    """
    keys = first, second, first ^ second ^ 0x1BD11BDA
    x, y = first, second + counter & word
    for group in range(5):
        for left in _ROTATIONS[group % 2]:
            x = x + y & word
            y = x ^ (y << left & word | y >> 32 - left)
        x = x + keys[(group + 1) % 3] & word
        y = y + keys[(group + 2) % 3] + (group + 1) & word
    return x, y


@functools.cache
def _program(formula: Formula) -> Callable[..., jax.Array]:
    """A function that draws N blocks of values, [N, BLOCK], of a formula.

    Its arguments are, for each block, the words of the key and the first counter, uint32 [N], and numbers [numbers, N].
    """

    def draw(first: jax.Array, second: jax.Array, counter: jax.Array, numbers: jax.Array) -> jax.Array:
        counters = counter[:, None] + jax.lax.iota(jnp.uint32, BLOCK)[None]
        x, y = threefry(first[:, None], second[:, None], counters, np.uint32(_WORD))

        @functools.cache
        def value(part: Formula) -> Any:
            if isinstance(part, Bits):
                return x ^ y
            if isinstance(part, int):
                return numbers[part][:, None]
            if isinstance(part, Constant):
                return part.value
            operands = jnp.broadcast_arrays(*map(value, part.operands))
            return part.primitive.bind(*operands, **dict(part.params))

        drawn: jax.Array = value(formula)
        return drawn

    return draw


def _lifted(part: Formula, numbers: list[Any], around: str | None = None) -> Formula:
    """A formula whose float constants are arguments, where that cannot change bits; they are added to ``numbers``."""
    if not isinstance(part, Operation) or not _is_random(part):
        return part
    name = part.primitive.name
    kind = _KIND.get(name)
    inner = [_KIND.get(each.primitive.name) for each in part.operands if isinstance(each, Operation)]
    is_alone = name in _LIFTED and kind not in (around, *inner)
    operands: list[Formula] = []
    for each in part.operands:
        number = _number(each) if is_alone else None
        if number is None or number in (0, 1, -1):
            operands.append(_lifted(each, numbers, kind))
        else:
            operands.append(len(numbers))
            numbers.append(number)
    return Operation(part.primitive, part.params, tuple(operands))


def _number(part: Formula) -> np.float32 | None:
    """The value of a float constant, or of one exact operation of two; ``None`` for another formula."""
    if isinstance(part, Constant):
        return part.value if part.dtype == np.float32 else None
    if isinstance(part, Operation) and part.primitive.name in _EXACT:
        values = [_number(each) for each in part.operands if isinstance(each, Constant)]
        if len(values) == 2 and not any(each is None for each in values):
            return np.float32(_EXACT[part.primitive.name](*values))
    return None


def _is_random(part: Formula) -> bool:
    return isinstance(part, Bits) or (isinstance(part, Operation) and any(map(_is_random, part.operands)))


def _read(function: Callable[..., TrainState], *arguments: Any) -> Reading | None:
    """Read what a function does from its jaxpr; ``None`` where it does anything but draw."""
    closed, state = jax.make_jaxpr(function, return_shape=True)(*arguments)
    given = []
    for place, leaf in enumerate(jax.tree.leaves(arguments)):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) and leaf.ndim == 0
        usable = is_key and jax.random.key_impl(leaf) == "threefry2x32"
        given.append(_keys((), [(place,)]) if usable else None)
    outputs = _evaluate(closed, given)
    if any(each is None or _is_key(each) or getattr(each, "key", ()) is None for each in outputs):
        return None
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # named as compiled initialisation does
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), state)
    return Reading(tuple(outputs), shapes)


def _keys(shape: tuple[int, ...], paths: Sequence[Path]) -> NDArray[np.object_]:
    """An array of keys."""
    made = np.empty(len(paths), object)
    made[:] = paths
    return made.reshape(shape)


def _is_key(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object


def _evaluate(closed: Any, given: Sequence[Any]) -> list[Any]:
    """The results of a jaxpr: arrays, arrays of keys, draws, or ``None`` for whatever is not known."""
    known: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, map(_constant, closed.consts), strict=True))
    known |= dict(zip(closed.jaxpr.invars, given, strict=True))

    def read(atom: Any) -> Any:
        if not isinstance(atom, Literal):
            return known[atom]
        aval: Any = atom.aval
        return np.asarray(atom.val, aval.dtype)

    for equation in closed.jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        if equation.primitive.name in ("jit", "pjit"):
            results = _evaluate(equation.params["jaxpr"], operands)
        elif len(equation.outvars) == 1 and not any(each is None for each in operands):
            results = [_result(equation, operands)]
        else:
            results = [None] * len(equation.outvars)
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _constant(value: Any) -> Any:
    return None if jnp.issubdtype(value.dtype, jax.dtypes.extended) else np.asarray(value)


def _result(equation: Any, operands: list[Any]) -> Any:
    """The result of an equation whose operands are known; ``None`` where it is not."""
    name, params, (result,) = equation.primitive.name, equation.params, equation.outvars
    shape = result.aval.shape
    if name.startswith("random_"):
        return _random(name, params, operands)
    if name in _MOVED:
        (moved,) = operands
        if isinstance(moved, np.ndarray):
            return _MOVED[name](moved, params, shape)
        is_whole = moved.key is None or math.prod(moved.shape) == math.prod(shape)
        return Drawn(moved.key, shape, moved.formula) if is_whole else None
    if name not in _ELEMENTWISE or any(map(_is_key, operands)):
        return None
    if all(isinstance(each, np.ndarray) for each in operands):
        if name in _EXACT and operands[0].dtype.kind in "iu":
            return np.asarray(_EXACT[name](*operands))
        if name == "convert_element_type":
            return operands[0].astype(params["new_dtype"])
    drawn = [each if isinstance(each, Drawn) else _scalar(each) for each in operands]
    parts = [each for each in drawn if each is not None]
    random = {(each.key, each.shape) for each in parts if each.key is not None}
    if len(parts) < len(drawn) or len(random) > 1 or any(side != shape for _, side in random):
        return None
    key = next(iter(random))[0] if random else None
    operation = Operation(equation.primitive, tuple(params.items()), tuple(each.formula for each in parts))
    return Drawn(key, shape, operation)


def _scalar(array: NDArray[Any]) -> Drawn | None:
    """An array of equal values as a constant; ``None`` for another."""
    if array.size == 0 or any(
        step and side > 1 for step, side in zip(array.strides, array.shape, strict=True)
    ):
        return None
    return Drawn(None, array.shape, Constant.of(array.flat[0]))


def _random(name: str, params: Any, operands: list[Any]) -> Any:
    """The keys or bits that come of keys."""
    keys = operands[0]
    if not _is_key(keys) or keys.shape:
        return None
    path: Path = keys[()]
    if name == "random_fold_in" and isinstance(operands[1], np.ndarray) and not operands[1].shape:
        return _keys((), [(*path, int(operands[1]) & _WORD)])
    if name == "random_split":
        shape = tuple(params["shape"])
        return _keys(shape, [(*path, n) for n in range(math.prod(shape))])
    if name == "random_bits" and params["bit_width"] == 32 and 0 < math.prod(params["shape"]) <= _WORD:
        return Drawn(path, tuple(params["shape"]), Bits())
    return None


def _broadcast(values: NDArray[Any], params: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    added = [axis for axis in range(len(shape)) if axis not in params["broadcast_dimensions"]]
    return np.broadcast_to(np.expand_dims(values, added), shape)


def _slice(values: NDArray[Any], params: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    strides = params["strides"] or [1] * len(shape)
    return values[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


#: Primitives that move values without changing them, as functions of an array, parameters and the resulting shape.
_MOVED: dict[str, Callable[..., NDArray[Any]]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": lambda values, params, shape: values.reshape(shape),
    "squeeze": lambda values, params, shape: values.reshape(shape),
    "slice": _slice,
}
