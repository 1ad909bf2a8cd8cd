"""A process that measures dlbench's own compiled programs, with the data on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlbench import data, models, ops
from dlbench.bench import operations
from dlbench.bench.serving import peak_bytes, serve
from dlbench.execution.images import DeviceData
from dlbench.execution.programs import compile_program, inputs_of
from dlbench.models.network import Variables, network_of
from dlbench.ops import native
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.training import evaluation, loop
from dlbench.training.state import Data, Hyper, Static, TrainState, static_part

#: Size of the square matrices whose product measures the peak performance of a core, and number of repetitions.
_PEAK_SIDE = 1536
_PEAK_CALLS = 3


class Network:
    """A network that is trained as a worker trains it.

    Args:
        make: creates a model by name.
    """

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make

    def prepare(self, model: str, batch_size: int, optimizer: str, train_size: int, val_size: int) -> float:
        """Load data and compile; returns the seconds that compiling took, including tracing."""
        dataset = data.load("mnist5k")
        split = data.make_split(dataset.train_labels, train_size, val_size, 0)
        on_device = DeviceData.of(dataset)
        arrays = on_device.split(split)
        spec = TrialSpec(batch_size=batch_size, optimizer=optimizer)
        trial = Trial(spec=spec, data_digest=dataset.digest)
        static = static_part(self._make(model), trial)
        self._arrays, self._inputs = arrays, inputs_of(trial)
        start = time.perf_counter()
        self._program = compile_program(static, on_device, arrays, *self._inputs, trial, {})
        compile_s = time.perf_counter() - start
        self._state = jax.block_until_ready(self._program.init(arrays, *self._inputs))
        self._one = _compile_one(static.model, self._state, arrays)
        return compile_s

    def train(self, epochs: int) -> tuple[float, float]:
        """Train for some epochs; returns start and end, in seconds of a clock that all processes share."""
        start = time.monotonic()
        for _ in range(epochs):
            trained = self._program.train_epoch(self._state, self._arrays, *self._inputs)
            self._state, *_ = jax.block_until_ready(trained)
        return start, time.monotonic()

    def evaluate(self, times: int) -> tuple[float, float]:
        """Evaluate the validation images some times; returns start and end, in seconds of the same clock."""
        start = time.monotonic()
        for _ in range(times):
            self._state, *_ = jax.block_until_ready(
                self._program.validate(self._state, self._arrays, self._inputs[1])
            )
        return start, time.monotonic()

    def latency(self, calls: int) -> list[float]:
        """Seconds from one uint8 image on the host to its logits on the host, for each call."""
        variables = Variables(self._state.params, self._state.batch_stats)
        images = np.asarray(self._arrays.val_images)
        spent = []
        for call in range(calls):
            image = images[call % len(images)][None]
            start = time.perf_counter()
            np.asarray(self._one(variables, image))
            spent.append(time.perf_counter() - start)
        return spent

    def peak(self) -> float:
        """Floating-point operations per second of a float32 matrix product on one core: the best of XLA and NumPy."""
        side = _PEAK_SIDE
        a = np.random.default_rng(0).standard_normal((side, side), np.float32)
        on_device = jnp.asarray(a)
        dot = jax.jit(jnp.dot)
        products = (lambda: dot(on_device, on_device).block_until_ready(), lambda: a @ a)
        spent = []
        for product in products:
            product()
            for _ in range(_PEAK_CALLS):
                start = time.perf_counter()
                product()
                spent.append(time.perf_counter() - start)
        return 2 * side**3 / min(spent)


def _compile_one(model: Any, state: TrainState, arrays: Data) -> Any:
    network = network_of(model)

    @ops.accelerate
    def logits(variables: Variables, image: jax.Array) -> Any:
        return network.apply(variables, evaluation.normalize_images(image), {})[0]

    variables = Variables(state.params, state.batch_stats)
    return jax.jit(logits).lower(variables, arrays.val_images[:1]).compile()


def step_flops(model: Any) -> float:
    """FLOPs per image of a training step, as counted by XLA: the count for two images minus the count for one.

    The difference excludes the optimizer. The count of a whole epoch would be of no use, because XLA counts the body of
    a loop once.
    """
    return _flops(model, 2) - _flops(model, 1)


def _flops(model: Any, batch_size: int) -> float:
    static = Static(model, batch_size, "sgd")
    images = jax.ShapeDtypeStruct((batch_size, 28, 28, 1), jnp.uint8)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    keys, hyper = loop.purpose_keys(jax.random.key(0)), Hyper(1e-3)
    state = jax.eval_shape(
        lambda images, labels: loop.init(static, Data(images, labels, images, labels), keys, hyper),
        images,
        labels,
    )

    def step(carry: Any, images: jax.Array, labels: jax.Array) -> Any:
        return loop.train_step(static, carry, images, labels, keys, jnp.int32(0), hyper)

    carry = (state.params, state.batch_stats, state.opt_state)
    # The count does not depend on LLVM's optimisation level; without optimisation, compiling takes half the time.
    options: Any = {"xla_backend_optimization_level": 0}
    compiled = jax.jit(step).lower(carry, images, labels).compile(options)
    analysis: Any = compiled.cost_analysis()
    return float(analysis["flops"])


def main(make: Callable[[str], Any]) -> None:
    """Answer the parent's requests about networks that ``make`` creates."""
    network = Network(make)
    serve(
        {
            "prepare": network.prepare,
            "train": network.train,
            "evaluate": network.evaluate,
            "latency": network.latency,
            "peak": network.peak,
            "peak_bytes": peak_bytes,
            "use_cores": native.use_cores,
            "step_flops": lambda model: step_flops(make(model)),
            "operations": lambda model, shape, rounds: operations.measure(make(model), shape, rounds),
        }
    )


if __name__ == "__main__":
    main(models.create)
