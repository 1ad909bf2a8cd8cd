"""Write down what happens while a study is trained, as it happens; end it in order when asked to. No jax."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dlbench.errors import StoreError
from dlbench.execution import environment, messages
from dlbench.records import TIME_KINDS, Epoch, TrialStatus
from dlbench.spec.trial import Trial
from dlbench.storage import artifacts, manifest
from dlbench.storage.database import explained
from dlbench.storage.store import Store

#: Seconds between records of what the workers have spent.
_WRITE_AFTER_S = 1.0


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


class _Times:
    """What the workers of a study spend, by kind: with their waiting it adds up to workers times wall clock."""

    def __init__(self, before: dict[str, float], workers: int, since: float) -> None:
        self._before, self._workers, self._since = before, workers, since
        self._dead: list[dict[str, float]] = []
        self._living: dict[int, dict[str, float]] = {}
        self._written = since

    def hear(self, event: messages.Ready | messages.Idle) -> bool:
        """Take note; whether it is time to write the total down."""
        if isinstance(event, messages.Ready):
            self._dead.append(self._living.pop(event.worker, {}))  # a new worker takes its place
            return False
        self._living[event.worker] = event.spent
        due = time.monotonic() - self._written > _WRITE_AFTER_S
        self._written = time.monotonic() if due else self._written
        return due

    def total(self) -> dict[str, float]:
        """Seconds by kind, those of earlier commands included; what no worker has accounted for is waiting."""
        lives = [*self._dead, *self._living.values()]
        spent = {kind: sum(life.get(kind, 0.0) for life in lives) for kind in TIME_KINDS if kind != "wait"}
        spent["wait"] = self._workers * (time.monotonic() - self._since) - sum(spent.values())
        return {kind: self._before.get(kind, 0.0) + spent[kind] for kind in TIME_KINDS}


def _others(store: Store, now: Mapping[str, Any]) -> list[str]:
    """What to say of finished trials that were trained in another environment than the rest will be.

    Args:
        store: the study's results.
        now: the environment of the trials to come.
    """
    finished = [trial for trial in store.results(history=False, verify=False) if trial.status.is_finished]
    elsewhere = Counter(t.environment for t in finished if t.environment not in (None, now.get("digest")))
    known = {device.get("digest"): device for device in (m.get("device") or {} for m in store.manifests())}
    said = []
    for other, count in elsewhere.items():
        changed = "; ".join(environment.differences(known[other], now)) if other in known else ""
        trained = "1 trial of this study was" if count == 1 else f"{count} trials of this study were"
        said.append(
            f"{trained} trained in another environment ({other}, now {now.get('digest')}), so its bits can differ from "
            f"those of the rest{f': {changed}' if changed else ''}"
        )
    return said


def record(
    store: Store,
    trials: dict[str, Trial],
    described: dict[str, Any],
    happening: Generator[messages.AnyEvent],
    tell: Callable[[messages.AnyEvent], None],
    workers: int,
    since: float,
) -> None:
    """Write down every event, then pass it on.

    Args:
        store: the study's results, open for writing.
        trials: the study's trials by id.
        described: the manifest, to be completed by what the first worker runs on.
        happening: what happens.
        tell: called with each event, once it is written.
        workers: how many train.
        since: when (``time.monotonic``) the command began; the workers' waiting counts from there.

    Raises:
        StoreError: the disk refuses to be written.
    """
    from dlbench.storage.tensorboard import TensorBoardWriter

    writer = TensorBoardWriter(store.folder / "tensorboard")
    recorded = False
    times = _Times(store.times(), workers, since)

    def note(event: messages.AnyEvent) -> None:
        nonlocal recorded
        match event:
            case messages.Ready() if not recorded:
                for text in (*environment.notices(event.environment), *_others(store, event.environment)):
                    tell(messages.Notice(text=text))
                store.add_manifest(described | {"device": event.environment})
                manifest.write(store.folder, described | {"device": event.environment})
                recorded = True
            case messages.Ready() | messages.Idle() if times.hear(event):
                store.spend(times.total())
            case messages.Started():
                store.start(event.trial_ids)
                for trial_id in event.trial_ids:
                    writer.start(trials[trial_id])
            case messages.EpochEnded():
                store.epoch(event.trial_id, event.number, event.epoch)
                writer.epoch(event.trial_id, event.number, event.epoch)
            case messages.StateSaved():
                artifacts.write_state(artifacts.trial_folder(store.folder, event.trial_id), event.files)
            case messages.Finished():
                folder = artifacts.trial_folder(store.folder, event.trial_id)
                artifacts.write(folder, event.files)
                history = [Epoch(*values) for values in event.history]
                made = artifacts.files_digest(event.files) if event.files else None
                outcome = replace(event.outcome, files_sha256=made)
                writer.finish(trials[event.trial_id], outcome)
                store.finish(event.trial_id, event.status, outcome, history)
                artifacts.forget_states(folder)
            case messages.Failed(disk=True):
                raise StoreError(
                    f"the disk under {store.folder} refuses to be written: {event.reason}; free some space or make "
                    "it writable, then give the same command again: what is done is kept"
                )
            case messages.Failed():
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
        store.spend(times.total())
    finally:
        happening.close()
        with contextlib.suppress(OSError):
            writer.close()
