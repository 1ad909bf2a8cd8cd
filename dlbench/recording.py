"""Write down what happens while a study is trained, as it happens; end it in order when asked to. No jax."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from dlbench import events, manifest
from dlbench.database import explained
from dlbench.errors import StoreError
from dlbench.results import Epoch, TrialStatus
from dlbench.spec import Trial
from dlbench.store import Store


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second interrupts at once."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def handle(number: int, frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def record(
    store: Store,
    trials: dict[str, Trial],
    described: dict[str, Any],
    happening: Generator[events.AnyEvent],
    tell: Callable[[events.AnyEvent], None],
) -> None:
    """Write down every event, then pass it on.

    Args:
        store: the study's results, open for writing.
        trials: the study's trials by id.
        described: the manifest, to be completed by what the first worker runs on.
        happening: what happens.
        tell: called with each event, once it is written.

    Raises:
        StoreError: the disk refuses to be written.
    """
    from dlbench.writers import TensorBoardWriter

    writer = TensorBoardWriter(store.folder / "tensorboard")
    recorded = False

    def note(event: events.AnyEvent) -> None:
        nonlocal recorded
        match event:
            case events.Ready() if not recorded:
                store.add_manifest(described | {"device": event.environment})
                manifest.write(store.folder, described | {"device": event.environment})
                recorded = True
            case events.Started():
                store.start(event.trial_ids)
                for trial_id in event.trial_ids:
                    writer.start(trials[trial_id])
            case events.EpochEnded():
                store.epoch(event.trial_id, event.number, event.epoch)
                writer.epoch(event.trial_id, event.number, event.epoch)
            case events.Finished():
                history = [Epoch(*values) for values in event.history]
                writer.finish(trials[event.trial_id], event.outcome)
                store.finish(event.trial_id, event.status, event.outcome, history)
            case events.Failed(disk=True):
                raise StoreError(
                    f"the disk under {store.folder} refuses to be written: {event.reason}; free some space or make "
                    "it writable, then give the same command again: what is done is kept"
                )
            case events.Failed():
                error = f"{event.reason}\n\n{event.traceback}".strip()
                store.finish(event.trial_id, TrialStatus.FAILED, error=error)

    try:
        for event in happening:
            try:
                note(event)
            except OSError:
                with explained(store.folder):
                    raise
            tell(event)
    finally:
        happening.close()
        with contextlib.suppress(OSError):
            writer.close()
