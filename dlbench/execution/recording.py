"""Record the events of a study while it is trained, and handle interruptions. No jax."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dlbench.errors import StoreError, StudyInterrupted
from dlbench.execution import energy, environment, messages
from dlbench.execution.processes import LEFT_TO_PARENT
from dlbench.records import TIME_KINDS, Epoch, TrialStatus
from dlbench.spec.trial import Trial
from dlbench.storage import artifacts, manifest
from dlbench.storage.database import explained, remedy_for
from dlbench.storage.store import Store

#: Seconds within which a second signal, other than SIGINT, counts as the first one again.
_REPEATED_S = 1.0
#: Seconds between records of the time that the workers have spent.
_WRITE_AFTER_S = 1.0


class Stopping(threading.Event):
    """Set by the first signal that asks the process to end; keeps its number."""

    number: int = signal.SIGINT


@contextmanager
def interruptible() -> Iterator[Stopping]:
    """An event that the first SIGINT, SIGTERM, SIGHUP or SIGUSR1 sets; a second signal interrupts immediately.

    SIGHUP stays ignored if it is (nohup). Programs may send a signal twice: timeout(1) signals the process and then its
    group, and both a shell and its terminal send SIGHUP when they close. All signals other than SIGINT within a second
    count as one request.

    Raises:
        StudyInterrupted: a second signal came.
    """
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    since = math.inf

    def handle(number: int, frame: object) -> None:
        nonlocal since
        if not stopping.is_set():
            stopping.number, since = number, time.monotonic()
            stopping.set()
        elif number == signal.SIGINT or time.monotonic() - since > _REPEATED_S:
            raise StudyInterrupted(number)

    before: dict[int, Any] = {}
    for number in LEFT_TO_PARENT:
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, handle)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Times:
    """The time that the workers of a study spend, by kind; it adds up to workers times wall clock.

    Where their number changes (``None``), it adds up to the time that each of them was there.
    """

    def __init__(self, before: dict[str, float], workers: int | None, since: float) -> None:
        self._before, self._workers, self._since = before, workers, since
        self._replaced: list[dict[str, float]] = []
        self._current: dict[int, dict[str, float]] = {}
        self._written = since

    def update(self, event: messages.Ready | messages.Idle) -> bool:
        """Take an event into account; returns whether the total should be recorded now."""
        if isinstance(event, messages.Ready):
            self._replaced.append(self._current.pop(event.worker, {}))
            return False
        self._current[event.worker] = event.spent
        due = time.monotonic() - self._written > _WRITE_AFTER_S
        self._written = time.monotonic() if due else self._written
        return due

    def total(self) -> dict[str, float]:
        """Seconds by kind, including those of earlier commands; time that no worker reported counts as waiting."""
        workers = [*self._replaced, *self._current.values()]
        spent = {kind: sum(each.get(kind, 0.0) for each in workers) for kind in TIME_KINDS}
        if self._workers is not None:
            whole = self._workers * (time.monotonic() - self._since)
            spent["wait"] += whole - sum(spent.values())
        return {kind: self._before.get(kind, 0.0) + spent[kind] for kind in TIME_KINDS}


def _others(store: Store, todo: Collection[str], now: Mapping[str, Any]) -> list[str]:
    """What to say of results of another environment that stay, because their trials are not trained now.

    Args:
        store: the study's results.
        todo: the ids of the trials to come.
        now: their environment.
    """
    found = Counter(
        other
        for trial_id, other in store.environments().items()
        if trial_id not in todo and other != now.get("digest")
    )
    described = store.described_environments()
    return [
        f"{'1 result' if number == 1 else f'{number:,} results'} in this folder come{'s' if number == 1 else ''} from "
        f"another environment ({environment.change(other, now, described)}), so bits can differ from those of the rest"
        for other, number in found.items()
    ]


def record(
    store: Store,
    trials: dict[str, Trial],
    todo: Collection[str],
    described: dict[str, Any],
    events: Generator[messages.AnyEvent],
    notify: Callable[[messages.AnyEvent], None],
    workers: int | None,
    since: float,
    keep_state: bool = False,
    device: str = "cpu",
) -> None:
    """Record every event, then pass it on.

    Args:
        store: the study's store, open for writing.
        trials: the study's trials by id.
        todo: the ids of those that are trained now.
        described: the manifest; the environment of the first worker is added to it, unless it has one already.
        events: the events of the study.
        notify: called with each event after it is recorded.
        workers: number of workers; ``None`` if it changes.
        since: when (``time.monotonic``) the command began; the workers' waiting counts from there.
        keep_state: whether to keep the state that each trial ends with.
        device: the kind of device that trains, whose energy is counted.

    Raises:
        StoreError: the disk cannot be written.
    """
    from dlbench.storage.tensorboard import TensorBoardWriter

    writer = TensorBoardWriter(store.folder / "tensorboard")
    recorded = False
    times = _Times(store.times(), workers, since)
    meter = energy.Meter(energy.counters(device), store.energy())

    def set_spent() -> None:
        total = times.total()
        store.set_spent(
            total,
            meter.total(sum(total.values()) if workers is None else workers * (time.monotonic() - since)),
        )

    def describe(found: Mapping[str, Any]) -> None:
        nonlocal recorded
        for text in (*environment.notices(found), *_others(store, todo, found)):
            notify(messages.Notice(text=text))
        store.add_manifest(described | {"device": found})
        manifest.write(store.folder, described | {"device": found})
        recorded = True

    def begin(trial_ids: Collection[str]) -> None:
        for trial_id, other in store.environments(trial_ids).items():
            name = artifacts.environment_name(other)
            writer.supersede(trials[trial_id], artifacts.superseded_folder(store.folder, name))
            artifacts.supersede(store.folder, trial_id, name)
        store.start(trial_ids)
        for trial_id in trial_ids:
            writer.start(trials[trial_id])

    def end(event: messages.Finished | messages.Copied) -> None:
        artifacts.write(artifacts.trial_folder(store.folder, event.trial_id), event.files)
        made = artifacts.files_digest(event.files) if event.files else None
        outcome = replace(event.outcome, files_sha256=made)
        writer.finish(trials[event.trial_id], outcome)
        store.finish(event.trial_id, event.status, outcome, [Epoch(*values) for values in event.history])

    def record_event(event: messages.AnyEvent) -> None:
        match event:
            case messages.Ready() if not recorded:
                describe(event.environment)
            case messages.Ready() | messages.Idle() if times.update(event):
                set_spent()
            case messages.Started():
                begin(event.trial_ids)
            case messages.Copied():
                begin((event.trial_id,))
                for number, values in enumerate(event.history, start=1):
                    writer.epoch(event.trial_id, number, Epoch(*values))
                end(event)
            case messages.EpochEnded():
                store.epoch(event.trial_id, event.number, event.epoch)
                writer.epoch(event.trial_id, event.number, event.epoch)
            case messages.StateSaved():
                artifacts.write_state(artifacts.trial_folder(store.folder, event.trial_id), event.files)
            case messages.Finished():
                if keep_state:
                    artifacts.keep_state(artifacts.trial_folder(store.folder, event.trial_id))
                end(event)
                artifacts.remove_states(artifacts.trial_folder(store.folder, event.trial_id))
            case messages.Failed(disk=True):
                raise StoreError(event.reason, remedy=remedy_for(event.reason))
            case messages.Failed():
                error = f"{event.reason}\n\n{event.traceback}".strip()
                store.finish(event.trial_id, TrialStatus.FAILED, error=error)

    try:
        if "device" in described:
            describe(described["device"])
        for event in events:
            store.check_place()
            meter.update()
            try:
                record_event(event)
            except OSError:
                with explained(store.folder):
                    raise
            notify(event)
        store.check_place()
        set_spent()
    finally:
        events.close()
        with contextlib.suppress(OSError):
            writer.close()
