"""A process that measures the epoch program of studies, for many lanes, in several forms."""

from __future__ import annotations

import concurrent.futures
import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlbench import data, models, ops
from dlbench.bench.serving import serve
from dlbench.execution import devices, environment
from dlbench.execution.images import LANES_OF_DATA, DeviceData
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.training import loop
from dlbench.training.state import Data, Hyper, Keys, Static, TrainState, static_part

#: Beyond this many seconds for an epoch of all lanes, one sample is enough.
_LONG_S = 2.0
_VAL_SIZE = 100


class Compiled(NamedTuple):
    """A compiled epoch, what puts its arguments on the device, and the seconds that tracing and compiling took."""

    call: Any
    arguments: Callable[[], tuple[Any, ...]]
    seconds: float


class Lanes:
    """The programs that are compiled and measured."""

    def prepare(self, train_size: int) -> dict[str, Any]:
        """Put the data on the device; returns what is known of it."""
        self._train_size = train_size
        self._dataset = DeviceData.of(data.load("mnist5k"))
        self._compiled: dict[tuple[Any, ...], concurrent.futures.Future[Compiled]] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(devices.count("cpu"))
        device = jax.devices()[0]
        return {
            "device_kind": device.device_kind,
            "images_per_epoch": train_size,
            "matmul_precision": environment.describe()["settings"]["jax_default_matmul_precision"],
            "jax": jax.__version__,
        }

    def compile(self, cases: list[dict[str, Any]]) -> None:
        """Start to compile."""
        for case in cases:
            self._compiled[tuple(case.values())] = self._pool.submit(self.program, **case)

    def ready(self, until: float | None) -> list[dict[str, Any]]:
        """The cases that are compiled, once there is one that was not measured; those that are not measured."""
        wait_s = None if until is None else max(0.0, until - time.monotonic())
        concurrent.futures.wait(self._compiled.values(), wait_s, concurrent.futures.FIRST_COMPLETED)
        names = ("model", "batch_size", "optimizer", "lanes", "form")
        return [dict(zip(names, key, strict=True)) for key, made in self._compiled.items() if made.done()]

    def measure(
        self, case: dict[str, Any], repeats: int, sample_s: float, until: float | None
    ) -> dict[str, Any]:
        """Images per second of all lanes, memory and seconds of compilation; or why there are none."""
        future = self._compiled.pop(tuple(case.values()))
        try:
            wait_s = None if until is None else max(0.0, until - time.monotonic())
            compiled = future.result(wait_s)
            if until is not None and time.monotonic() > until:
                raise TimeoutError
            compiling = sum(not other.done() for other in self._compiled.values())
            found = self._measure(compiled, case["lanes"], repeats, sample_s)
        except TimeoutError:
            future.cancel()
            return {"failed": "not measured within the time given"}
        except Exception as error:
            return {"failed": reason(error)}
        return found | {"compiled_meanwhile": compiling}

    def _measure(self, compiled: Compiled, lanes: int, repeats: int, sample_s: float) -> dict[str, Any]:
        state, *inputs = compiled.arguments()

        def epochs(state: TrainState, count: int) -> tuple[TrainState, float]:
            start = time.perf_counter()
            for _ in range(count):
                state, _, _ = compiled.call(state, *inputs)
            jax.block_until_ready(state)
            return state, time.perf_counter() - start

        state, first_s = epochs(state, 1)
        state, epoch_s = epochs(state, 1) if first_s < _LONG_S else (state, first_s)
        count = math.ceil(sample_s / epoch_s)
        samples = []
        for _ in range(repeats if epoch_s < _LONG_S else 1):
            state, spent = epochs(state, count)
            samples.append(lanes * count * self._train_size / spent)
        memory: Any = compiled.call.memory_analysis()
        used = ("temp_size_in_bytes", "argument_size_in_bytes", "output_size_in_bytes")
        stats = jax.devices()[0].memory_stats() or {}
        return {
            "samples": samples,
            "bytes": sum(getattr(memory, name) for name in used) if memory else None,
            "temporary_bytes": memory.temp_size_in_bytes if memory else None,
            "peak_bytes_of_process": stats.get("peak_bytes_in_use"),
            "compile_s": compiled.seconds,
        }

    def program(self, model: str, batch_size: int, optimizer: str, lanes: int, form: str) -> Compiled:
        """Compile the epoch of a case."""
        spec = TrialSpec(model=model, batch_size=batch_size, optimizer=optimizer)
        static = static_part(models.create(model), Trial(spec=spec, data_digest=""))
        arguments = self.arguments(static, lanes)
        start = time.perf_counter()
        mapped = epoch_of_lanes(static, lanes, form)
        plain: ops.Lowering = "compiled" if jax.default_backend() == "cpu" else "lax"
        with ops.lowered("product" if form == "product" else plain):
            lowered = jax.jit(mapped).lower(*jax.eval_shape(arguments))
        call = lowered.compile()
        return Compiled(call, arguments, time.perf_counter() - start)

    def arguments(self, static: Static, lanes: int) -> Callable[[], tuple[Any, ...]]:
        """What makes state, data, keys and hyper-parameters, of one trial or of one per lane, all of one network.

        They are made when they are needed: those of all cases together can exceed the device's memory.
        """
        generator = np.random.default_rng(lanes)
        images, labels = self._dataset.train_images, self._dataset.train_labels
        drawn = np.stack([generator.permutation(len(labels)) for _ in range(lanes)]).astype(np.int32)
        train, val = drawn[:, : self._train_size], drawn[:, self._train_size :][:, :_VAL_SIZE]
        keys = _purpose_keys(np.arange(lanes))
        hyper = Hyper(
            *jax.device_put((np.geomspace(1e-4, 1e-2, lanes, dtype=np.float32), np.zeros(lanes, "f4")))
        )
        one = jax.tree.map(lambda leaf: leaf[0], (keys, hyper))
        start = _initial(static, Data(images[:1], labels[:1], images[:1], labels[:1]), *one)
        if lanes == 1:
            only = start, Data(images, labels, images, labels, *jax.device_put((train[0], val[0]))), *one
            return lambda: only

        def make() -> tuple[Any, ...]:
            state = _spread(lanes, start)
            return state, Data(images, labels, images, labels, *jax.device_put((train, val))), keys, hyper

        return make


@functools.partial(jax.jit, static_argnums=0)
def _spread(lanes: int, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (lanes, *leaf.shape)), tree)


@jax.jit
@jax.vmap
def _purpose_keys(seed: jax.Array) -> Keys:
    return loop.purpose_keys(jax.random.key(seed))


_initial = jax.jit(loop.init, static_argnums=0)


def epoch_of_lanes(static: Static, lanes: int, form: str) -> Any:
    """The epoch program of so many lanes, in a form of :data:`dlbench.bench.lanes.FORMS`."""
    bound = functools.partial(loop.train_epoch, static)
    if lanes == 1:
        return bound
    if form != "loop":
        return jax.vmap(bound, in_axes=(0, LANES_OF_DATA, 0, 0))

    def one_after_the_other(state: TrainState, data: Data, keys: Any, hyper: Hyper) -> Any:
        def lane(own: Any) -> Any:
            state, train_indices, val_indices, keys, hyper = own
            return bound(
                state, data._replace(train_indices=train_indices, val_indices=val_indices), keys, hyper
            )

        return jax.lax.map(lane, (state, data.train_indices, data.val_indices, keys, hyper))

    return one_after_the_other


def reason(error: BaseException) -> str:
    """Why a case could not be measured, in a line."""
    text = str(error)
    if "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower():
        return "out of memory"
    return f"{type(error).__name__}: {text.splitlines()[0][:300] if text else ''}"


if __name__ == "__main__":
    lanes = Lanes()
    serve(
        {
            "prepare": lanes.prepare,
            "compile": lanes.compile,
            "ready": lanes.ready,
            "measure": lanes.measure,
        }
    )
