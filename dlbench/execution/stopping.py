"""How trials are stopped: what is complete is saved soon, and an epoch may end if that takes a few seconds. No jax."""

from __future__ import annotations

from collections.abc import Iterator

from dlbench.execution import messages

#: Seconds after which the last complete epoch is saved, if the current one has not ended.
SAVE_AFTER_S = 0.5
#: Seconds that the current epoch may take; then it is given up.
PATIENCE_S = 3.0
#: Seconds after which a worker is killed that has not even saved its trials.
KILL_AFTER_S = 10.0
NOTICE = messages.Notice(
    text="Finishing the epoch and saving its state; press Ctrl-C again to stop now", urgent=True
)


def pauses() -> Iterator[float]:
    """The seconds to wait before each attempt to save the last complete epoch; after the last one, it is given up."""
    yield SAVE_AFTER_S
    yield PATIENCE_S - SAVE_AFTER_S
