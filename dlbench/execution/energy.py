"""The energy that this machine's processors and GPUs have used, as their own counters have it. No jax.

Processors count by RAPL, where Linux lets their counters be read (by default only root may); NVIDIA's GPUs by NVML,
where the package nvidia-ml-py is installed. Both count all that runs on the machine.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Where Linux shows the counters of RAPL.
RAPL = Path("/sys/class/powercap")
#: Seconds between two readings.
_EVERY_S = 2.0


@dataclass
class Counter:
    """A counter of energy that only grows, and begins again from 0 when it is full.

    Attributes:
        kind: "rapl" or "nvml".
        read: the joules that it has counted; raises OSError.
        full_j: joules at which it begins again; infinite where it does not.
        last_j: what it read last.
    """

    kind: str
    read: Callable[[], float]
    full_j: float = float("inf")
    last_j: float = field(init=False)

    def __post_init__(self) -> None:
        self.last_j = self.read()

    def used(self) -> float:
        """The joules since this was last asked."""
        before, self.last_j = self.last_j, self.read()
        return self.last_j - before + (self.full_j if self.last_j < before else 0.0)


class Meter:
    """Adds up the energy of a study; each counter has to be read before it is full twice.

    Args:
        counters: what is read.
        before: what earlier commands have used, as :meth:`total` gave it.
    """

    def __init__(self, counters: Sequence[Counter], before: Mapping[str, float]) -> None:
        self._counters, self._before = counters, before
        self._used = dict.fromkeys((counter.kind for counter in counters), 0.0)
        self._read_at = time.monotonic()

    def update(self) -> None:
        """Read the counters, unless they were read a moment ago: some are full after minutes."""
        if self._counters and time.monotonic() - self._read_at > _EVERY_S:
            self._read()

    def _read(self) -> None:
        self._read_at = time.monotonic()
        with contextlib.suppress(OSError):
            for counter in self._counters:
                self._used[counter.kind] += counter.used()

    def total(self, spent_s: float) -> dict[str, float]:
        """Joules by kind of counter, and "seconds" of the workers that they are about, earlier commands included.

        Args:
            spent_s: seconds of all workers since the counters were first read.
        """
        self._read()
        found = {**self._used, "seconds": spent_s} if self._counters else {}
        return {
            kind: self._before.get(kind, 0.0) + found.get(kind, 0.0) for kind in {**self._before, **found}
        }


def counters(device: str, root: Path = RAPL) -> list[Counter]:
    """The counters of this machine that can be read.

    Args:
        device: the kind of device that trains; GPUs are counted where it is "gpu".
        root: where the counters of RAPL are.
    """
    return [*_rapl(root), *(_nvml() if device == "gpu" else ())]


def _rapl(root: Path) -> Iterator[Counter]:
    """The packages, which include cores and graphics, and the memory beside them."""
    for path in sorted(root.glob("intel-rapl:*")):
        with contextlib.suppress(OSError, ValueError):
            if path.name.count(":") == 1 or (path / "name").read_text().strip() == "dram":
                full_j = _joules(path / "max_energy_range_uj")
                yield Counter("rapl", functools.partial(_joules, path / "energy_uj"), full_j)


def _joules(path: Path) -> float:
    """What a file counts in microjoules."""
    return int(path.read_text()) / 1e6


def _nvml() -> Iterator[Counter]:
    """All GPUs of the machine."""
    try:
        import pynvml
    except ImportError:
        return

    def joules(handle: Any) -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except pynvml.NVMLError as error:
            raise OSError(str(error)) from None

    with contextlib.suppress(pynvml.NVMLError, OSError):
        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            yield Counter("nvml", functools.partial(joules, handle))
