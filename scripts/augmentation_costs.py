"""Measure what augmentation costs: ``python scripts/augmentation_costs.py`` prints the table of docs/augmentation.md.

The CPU time of one thread for 64 images, inside a compiled loop as in training; the shortest of several rounds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from dlbench.execution.environment import configure

configure(os.environ, "cpu")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from dlbench import models  # noqa: E402
from dlbench.spec.registry import TRANSFORMS  # noqa: E402
from dlbench.training import loop  # noqa: E402
from dlbench.training.state import Data, Hyper, Static  # noqa: E402

BATCH, STEPS, ROUNDS = 64, 16, 20
SHAPES = ((28, 28, 1), (32, 32, 3))


def operation(name: str, images: Any) -> Callable[[], Any]:
    """An operation, as often as there are steps."""
    apply = TRANSFORMS.load(name)

    def run(images: Any, key: Any) -> Any:
        def again(images: Any, index: Any) -> Any:
            return apply(images, jax.random.fold_in(key, index)), None

        return jax.lax.scan(again, images, jnp.arange(STEPS))[0]

    compiled, key = jax.jit(run), jax.random.key(0)
    return lambda: jax.block_until_ready(compiled(images, key))


def step(images: Any, labels: Any) -> Callable[[], Any]:
    """The training steps of Baseline, without augmentation."""
    static = Static(models.create("Baseline"), BATCH, "sgd")
    data = Data(jnp.tile(images, (STEPS, 1, 1, 1)), jnp.tile(labels, STEPS), images, labels)
    keys, hyper = loop.purpose_keys(jax.random.key(0)), Hyper(1e-3)
    state = jax.jit(lambda: loop.init(static, data, keys, hyper))()
    compiled = jax.jit(lambda state, data: loop.train_epoch(static, state, data, keys, hyper))
    return lambda: jax.block_until_ready(compiled(state, data))


def main() -> None:
    """Print a row for each operation."""
    names = [name for name in TRANSFORMS.built_in if name != "standard"]
    shortest = []
    for shape in SHAPES:
        generator = np.random.default_rng(0)
        images = jnp.asarray(generator.integers(0, 256, (BATCH, *shape), dtype=np.uint8))
        labels = jnp.asarray(generator.integers(0, 10, BATCH, dtype=np.int32))
        runs = [step(images, labels), *(operation(name, images) for name in names)]
        times = np.empty((ROUNDS + 1, len(runs)))
        for measured in times:
            for number, run in enumerate(runs):
                start = time.process_time()
                run()
                measured[number] = (time.process_time() - start) / STEPS
        shortest.append(times[1:].min(axis=0))
    print("| operation | " + " | ".join("ms, {}x{}x{} | of a step".format(*shape) for shape in SHAPES) + " |")
    print("|---|" + "--:|--:|" * len(SHAPES))
    for number, name in enumerate(("a training step of Baseline", *(f"`{name}`" for name in names))):
        cells = [f"{1e3 * each[number]:.2f} | {each[number] / each[0]:.1%}" for each in shortest]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
