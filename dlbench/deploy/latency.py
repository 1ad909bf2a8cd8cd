"""How long a network takes: quantiles of the latency of one image, and images per second of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Run = Callable[[NDArray[Any]], Any]

#: Seconds that each measurement takes at most in all its rounds, and calls of a round at most and at least.
_BUDGET_S = 2.0
_MOST, _LEAST = 1000, 20
_WARM_UP = 5
#: Images of the batch whose throughput is measured.
BATCH = 64


@dataclass(frozen=True)
class Latency:
    """Measured times.

    Attributes:
        p50_s: median latency of one image, in seconds.
        p95_s: 95 % of the calls take no longer.
        p99_s: 99 % of the calls take no longer.
        images_per_s: throughput of batches of 64 images.
        threads: threads that the runtime used.
    """

    p50_s: float
    p95_s: float
    p99_s: float
    images_per_s: float
    threads: int


def measure(run: Run, images: NDArray[Any], threads: int) -> Latency:
    """Measure a network.

    Args:
        run: computes the logits of images [N, H, W, C], and returns when they are computed.
        images: float32 [N, H, W, C], at least one.
        threads: threads that the runtime uses, for the record.
    """
    (latency,) = side_by_side([run], images, threads, 1)
    return latency


def side_by_side(runs: Sequence[Run], images: NDArray[Any], threads: int, rounds: int) -> list[Latency]:
    """Measure networks in turns, so that what else the machine does falls on all of them alike.

    Args:
        runs: as in :func:`measure`.
        images: likewise.
        threads: likewise.
        rounds: number of turns.

    Returns:
        One per network, of the calls of all rounds.
    """
    import numpy as np

    alone = [images[n : n + 1] for n in range(min(len(images), BATCH))]
    batch = [np.resize(images, (BATCH, *images.shape[1:]))]
    single: list[list[float]] = [[] for _ in runs]
    together: list[list[float]] = [[] for _ in runs]
    for run in runs:  # compiles, loads, and fills caches
        for inputs in (alone, batch):
            _times(run, inputs, 0.0, _WARM_UP)
    for _ in range(rounds):
        for place, run in enumerate(runs):
            single[place] += _times(run, alone, _BUDGET_S / rounds, _LEAST)
            together[place] += _times(run, batch, _BUDGET_S / rounds, _LEAST)
    quantiles = [[float(each) for each in np.quantile(times, [0.5, 0.95, 0.99])] for times in single]
    return [
        Latency(p50, p95, p99, BATCH / float(np.median(batches)), threads)
        for (p50, p95, p99), batches in zip(quantiles, together, strict=True)
    ]


def _times(run: Run, inputs: list[NDArray[Any]], budget_s: float, least: int) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < least or (len(times) < _MOST and time.perf_counter() < end):
        start = time.perf_counter()
        run(inputs[len(times) % len(inputs)])
        times.append(time.perf_counter() - start)
    return times
