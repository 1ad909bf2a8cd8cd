"""How long a network takes: quantiles of the latency of one image, and images per second of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Seconds that each measurement takes at most, and calls that it makes at most and at least.
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


def measure(run: Callable[[NDArray[Any]], Any], images: NDArray[Any], threads: int) -> Latency:
    """Measure a network.

    Args:
        run: computes the logits of images [N, H, W, C], and returns when they are computed.
        images: float32 [N, H, W, C], at least one.
        threads: threads that the runtime uses, for the record.
    """
    import numpy as np

    alone = [images[n : n + 1] for n in range(min(len(images), BATCH))]
    times = _times(run, alone)
    batch = np.resize(images, (BATCH, *images.shape[1:]))
    p50, p95, p99 = np.quantile(times, [0.5, 0.95, 0.99])
    together = float(np.median(_times(run, [batch])))
    return Latency(float(p50), float(p95), float(p99), BATCH / together, threads)


def _times(run: Callable[[NDArray[Any]], Any], inputs: list[NDArray[Any]]) -> list[float]:
    for n in range(_WARM_UP):
        run(inputs[n % len(inputs)])
    times: list[float] = []
    end = time.perf_counter() + _BUDGET_S
    while len(times) < _LEAST or (len(times) < _MOST and time.perf_counter() < end):
        start = time.perf_counter()
        run(inputs[len(times) % len(inputs)])
        times.append(time.perf_counter() - start)
    return times
