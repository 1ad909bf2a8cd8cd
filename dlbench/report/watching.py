"""When to write a report anew while its studies are trained. No jax."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlbench.storage.database import is_worked_on
from dlbench.storage.store import Store

#: Seconds after which a page that is watched reloads itself.
RELOAD_S = 5
#: Seconds between two looks at a study.
_PAUSE_S = 2.0
#: Writing a report takes at most this share of the time, so that it does not slow down training.
_SHARE = 0.2
#: Looks at which no process works on any study before the end: between two looks of a growing study there is a gap.
_QUIET = 3


def moments(studies: Sequence[Path], pause_s: float = _PAUSE_S) -> Iterator[bool]:
    """The moments at which to write a report of studies.

    Args:
        studies: the studies' folders.
        pause_s: seconds between two looks at them.

    Yields:
        Whether any of the studies is still being trained: ``True`` whenever trials have ended, and ``False`` once, when
        no process works on the studies any more.

    Raises:
        StoreError: a study cannot be read.
    """
    written: list[int] | None = None
    quiet = _QUIET - 1  # a study that no process works on now is reported at once
    while True:
        quiet = 0 if any(map(is_worked_on, studies)) else quiet + 1
        if quiet >= _QUIET:
            yield False
            return
        ended = list(map(_num_ended, studies))
        took = 0.0
        if ended != written:
            start = time.monotonic()
            yield True
            took, written = time.monotonic() - start, ended
        time.sleep(max(pause_s, took * (1 / _SHARE - 1)))


def _num_ended(study: Path) -> int:
    """The number of trials that have a result or failed."""
    with Store(study) as store:
        counts = store.counts()
    return sum(number for status, number in counts.items() if status.has_ended)
