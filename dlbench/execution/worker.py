"""Train the trials of one program at a time on one device. The only place where jax meets the outside.

:class:`Worker` does the work, in whichever process; ``python -m dlbench.execution.worker`` is a process that does it
for a parent, over pipes (see :mod:`dlbench.execution.messages`); with ``--environment`` it prints what it runs on.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview

from dlbench import data, files, native
from dlbench.errors import InputError
from dlbench.execution import messages, saved_states
from dlbench.execution.programs import (
    CompiledProgram,
    DeviceSplit,
    Executable,
    compile_program,
    inputs_of,
    lane_of,
    stack,
)
from dlbench.models import creation
from dlbench.records import TIME_KINDS, Epoch, TrialStatus, convergence_epoch, history_digest, json_number
from dlbench.spec.registry import CRITERIA
from dlbench.spec.trial import Trial
from dlbench.storage import checkpoints
from dlbench.storage.database import is_out_of_room
from dlbench.training.augmentation import augment
from dlbench.training.metrics import classification_metrics
from dlbench.training.state import Data, Hyper, Keys, TrainState, static_part

#: Labels the draws of the augmented test images; the same for every trial.
AUGMENTED_TEST_SEED = 0
#: Seconds between saved states of a trial where nobody asked for a number of epochs.
SAVE_AFTER_S = 60.0
Emit = Callable[[messages.AnyEvent], None]


class Interrupted(Exception):  # noqa: N818
    """The parent wants to end."""


class Worker:
    """Trains trials on this process's default device and reports what happens.

    Args:
        number: the worker's number in its study.
        study_dir: the study's folder.
        data_dir: where the user's data sets lie.
        checkpoint_every: epochs between saved states of a trial; once a minute unless given.
        emit: called with each event.
        started: when (``time.monotonic``) the worker's life began; now unless given.
    """

    def __init__(
        self,
        number: int,
        study_dir: Path,
        data_dir: str | None,
        checkpoint_every: int | None,
        emit: Emit,
        started: float | None = None,
    ) -> None:
        self._clock = Clock(time.monotonic() if started is None else started)
        self.number, self.study_dir, self.data_dir, self.emit = number, study_dir, data_dir, emit
        self.checkpoint_every = checkpoint_every
        #: Set to have the trial in hand saved after its epoch and left.
        self.stopping = threading.Event()
        self._splits: dict[object, DeviceSplit] = {}
        self._programs: dict[object, CompiledProgram] = {}
        self._executables: dict[object, Executable] = {}

    def run(self, trials: Sequence[Trial]) -> None:
        """Train trials that share a program and a number of epochs, one a lane; whatever happens, end with Idle."""
        self._clock.lap("wait")
        if not self.stopping.is_set():
            self._try(trials)
        self._clock.lap("io")
        self.emit(messages.Idle(worker=self.number, spent=self._clock.life))

    def _try(self, trials: Sequence[Trial]) -> None:
        self.emit(messages.Started(worker=self.number, trial_ids=tuple(trial.id for trial in trials)))
        try:
            self._train(trials)
        except Interrupted:
            pass  # its state is kept; the trial goes on another time
        except Exception as error:
            text = traceback.format_exc()
            for trial in trials:
                reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                disk = is_out_of_room(error)
                self.emit(messages.Failed(trial_id=trial.id, reason=reason, traceback=text, disk=disk))
            self._clock.take()

    def _train(self, trials: Sequence[Trial]) -> None:
        clock = self._clock
        lanes = trials[0].lanes
        split = self._split(trials[0])
        inputs = stack(
            [inputs_of(trial) for trial in [*trials, *[trials[-1]] * (lanes - len(trials))]], lanes
        )
        clock.lap("io")
        program = self._program(trials[0], split, *inputs)
        clock.lap("compile")
        state, histories = self._epochs(trials, program, split, inputs, clock)
        logits = np.asarray(program.predict(state.best_params, state.best_batch_stats, split.test_images))
        moved = self._augmented_logits(trials, program, state, split)
        clock.lap("eval")
        outcomes = []
        for lane, trial in enumerate(trials):
            own = jax.device_get(lane_of(state, lane, lanes))
            outcome = self._outcome(trial, split, histories[lane], own)
            if histories[lane][-1].is_finite:
                outcome |= self._test(trial, split, own, lane_of(logits, lane, lanes))
                if moved is not None and _tests_augmented(trial):
                    hits = lane_of(moved, lane, lanes).argmax(axis=1) == split.test_labels
                    outcome["test_accuracy_augmented"] = float(hits.mean())
            outcomes.append(outcome)
        clock.lap("io")
        spent = clock.take()
        for trial, history, outcome in zip(trials, histories, outcomes, strict=True):
            outcome |= {f"{kind}_time_s": seconds / len(trials) for kind, seconds in spent.items()}
            outcome["compile_time_alone_s"] = program.compile_s
            outcome["images_per_s"] = len(history) * len(split.arrays.train_labels) / outcome["train_time_s"]
            status = TrialStatus.COMPLETE if history[-1].is_finite else TrialStatus.DIVERGED
            self.emit(
                messages.Finished(trial_id=trial.id, status=status, outcome=outcome, history=tuple(history))
            )
            saved_states.forget(self._folder(trial))

    def _epochs(
        self, trials: Sequence[Trial], program: CompiledProgram, split: DeviceSplit, inputs: Any, clock: Clock
    ) -> tuple[TrainState, list[list[Epoch]]]:
        """Train until the last epoch, or until every lane has diverged.

        Raises:
            Interrupted: the parent wants to end; the state is kept.
        """
        state = program.init(split.arrays, *inputs)
        state, histories = self._restored(trials, state, clock)
        saved = time.monotonic()
        for number in range(max(map(len, histories)) + 1, trials[0].spec.num_epochs + 1):
            if self.stopping.is_set():
                self._save(trials, state, histories, clock)
                raise Interrupted
            trained = program.train_epoch(state, split.arrays, *inputs)
            state, loss, accuracy = jax.block_until_ready(trained)
            clock.lap("train")
            state, val_loss, val_accuracy = program.validate(state, split.arrays)
            figures = np.stack([np.atleast_1d(x) for x in (loss, accuracy, val_loss, val_accuracy)], axis=1)
            clock.lap("eval")
            alive = [lane for lane, past in enumerate(histories) if not past or past[-1].is_finite]
            for lane in alive:
                histories[lane].append(Epoch(*map(float, figures[lane])))
                values = histories[lane][-1]
                self.emit(messages.EpochEnded(trial_id=trials[lane].id, number=number, values=values))
            if not any(histories[lane][-1].is_finite for lane in alive):
                break
            if number < trials[0].spec.num_epochs and self._is_due(number, saved):
                self._save(trials, state, histories, clock)
                saved = time.monotonic()
            clock.lap("io")
        return state, histories

    def _is_due(self, number: int, saved: float) -> bool:
        if self.checkpoint_every is None:
            return time.monotonic() - saved > SAVE_AFTER_S
        return number % self.checkpoint_every == 0

    def _save(
        self, trials: Sequence[Trial], state: TrainState, histories: list[list[Epoch]], clock: Clock
    ) -> None:
        for lane, trial in enumerate(trials):
            own = jax.device_get(lane_of(state, lane, trial.lanes))
            spent = {kind: seconds / len(trials) for kind, seconds in clock.job.items()}
            saved_states.save(
                self._folder(trial), trial, saved_states.Progress(own, tuple(histories[lane]), spent)
            )

    def _restored(
        self, trials: Sequence[Trial], state: TrainState, clock: Clock
    ) -> tuple[TrainState, list[list[Epoch]]]:
        """Where these trials were interrupted, if all of them were, after the same epoch; else their beginning."""
        lanes = trials[0].lanes
        example = lane_of(state, 0, lanes)

        def warn(text: str) -> None:
            self.emit(messages.Notice(text=text))

        found = [saved_states.restore(self._folder(trial), trial, example, warn) for trial in trials]
        kept = [progress for progress in found if progress is not None]
        if len(kept) < len(trials) or len({int(progress.state.epoch) for progress in kept}) > 1:
            return state, [[] for _ in trials]
        for trial, progress in zip(trials, kept, strict=True):
            for number, values in enumerate(progress.history, start=1):
                self.emit(messages.EpochEnded(trial_id=trial.id, number=number, values=values))
            for kind, seconds in progress.spent.items():
                clock.job[kind] += seconds
        padded = [*kept, *[kept[-1]] * (lanes - len(kept))]
        restored = jax.tree.map(jnp.asarray, stack([progress.state for progress in padded], lanes))
        return restored, [list(progress.history) for progress in kept]

    def _folder(self, trial: Trial) -> Path:
        folder = self.study_dir / "trials" / trial.id
        files.refuse_links(folder.parent, folder)
        return folder

    def _outcome(
        self, trial: Trial, split: DeviceSplit, history: list[Epoch], state: TrainState
    ) -> dict[str, Any]:
        """What is known of every trial that ran, diverged ones included."""
        diverged = not history[-1].is_finite
        losses = [epoch.train_loss for epoch in history]
        best = int(state.best_epoch)
        return {
            "num_params": int(parameter_overview.count_parameters(state.params)),
            "best_val_accuracy": float(state.best_val_accuracy) if best else None,
            "best_val_loss": json_number(history[best - 1].val_loss) if best else None,
            "best_epoch": best or None,
            "convergence_epoch": None if diverged else convergence_epoch(losses, trial.spec.num_epochs),
            "diverged_epoch": len(history) if diverged else None,
            "split_digest": split.digest,
            "params_sha256": checkpoints.tree_digest((state.params, state.batch_stats)),
            "best_params_sha256": checkpoints.tree_digest((state.best_params, state.best_batch_stats)),
            "history_sha256": history_digest(history),
            "device": jax.devices()[0].device_kind,
            "xla_threads": _threads(),
            "worker": self.number,
        }

    def _test(
        self, trial: Trial, split: DeviceSplit, state: TrainState, logits: np.ndarray[Any, Any]
    ) -> dict[str, Any]:
        """Figures on the test images, and the trial's files: checkpoint, predictions."""
        folder = self._folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints.save_best(folder, trial, split.num_classes, state.best_params, state.best_batch_stats)
        files.write_whole(folder / "test_logits.npy", lambda file: np.save(file, logits, allow_pickle=False))
        loss = CRITERIA.load(trial.spec.criterion)(jnp.asarray(logits), jnp.asarray(split.test_labels)).mean()
        return {"test_loss": json_number(float(loss)), **classification_metrics(logits, split.test_labels)}

    def _augmented_logits(
        self, trials: Sequence[Trial], program: CompiledProgram, state: TrainState, split: DeviceSplit
    ) -> np.ndarray[Any, Any] | None:
        if not any(map(_tests_augmented, trials)):
            return None
        images = jax.jit(augment)(split.test_images, jax.random.key(AUGMENTED_TEST_SEED))
        return np.asarray(program.predict(state.best_params, state.best_batch_stats, images))

    def _split(self, trial: Trial) -> DeviceSplit:
        spec = trial.spec
        key = (spec.dataset, trial.data_digest, spec.train_size, spec.val_size, spec.split_seed)
        if key not in self._splits:
            dataset = data.load(spec.dataset, self.data_dir)
            if dataset.digest != trial.data_digest:
                raise InputError(
                    f"data set {spec.dataset!r} has changed: its digest is {dataset.digest[:12]}, "
                    f"the trial was planned with {trial.data_digest[:12]}"
                )
            assert spec.val_size is not None
            drawn = data.make_split(dataset.train_labels, spec.train_size, spec.val_size, spec.split_seed)
            parts = [
                jnp.asarray(array[indices])
                for indices in (drawn.train_indices, drawn.val_indices)
                for array in (dataset.train_images, dataset.train_labels)
            ]
            self._splits.clear()  # one at a time: full data sets are large
            self._splits[key] = DeviceSplit(
                Data(*parts),
                jnp.asarray(dataset.test_images),
                np.asarray(dataset.test_labels),
                dataset.num_classes,
                drawn.digest,
            )
        return self._splits[key]

    def _program(self, trial: Trial, split: DeviceSplit, keys: Keys, hyper: Hyper) -> CompiledProgram:
        model = creation.create_for(trial, split.num_classes)
        static = static_part(model, trial)
        shapes = tuple(array.shape for array in (*split.arrays, split.test_images))
        key = (static, trial.model_digest, trial.lanes, shapes)
        if key not in self._programs:
            self._programs[key] = compile_program(static, split, keys, hyper, trial, self._executables)
        return self._programs[key]


def _tests_augmented(trial: Trial) -> bool:
    return trial.spec.test_augmented or trial.spec.transform == "augmented"


class Clock:
    """Seconds by kind, from lap to lap: every moment of a worker's life is spent on something.

    ``life`` adds up to the time since ``started``; ``job`` is the part that the trials in hand have to answer for,
    the worker's start or waiting before them included, and what they had spent when they were interrupted.
    """

    def __init__(self, started: float) -> None:
        self.life = dict.fromkeys(TIME_KINDS, 0.0)
        self.job = dict.fromkeys(TIME_KINDS, 0.0)
        self._last = started

    def lap(self, kind: str) -> None:
        """The time since the last lap was spent on this."""
        now = time.monotonic()
        self.life[kind] += now - self._last
        self.job[kind] += now - self._last
        self._last = now

    def take(self) -> dict[str, float]:
        """What the trials in hand have spent; from here on it is the next ones'."""
        spent, self.job = self.job, dict.fromkeys(TIME_KINDS, 0.0)
        return spent


def _threads() -> int:
    """Threads that XLA's CPU backend computes with; they change bits."""
    return int(os.environ.get("NPROC") or os.cpu_count() or 1)


def _kernels() -> str | None:
    """The name of the compiled file that this process uses; it tells source, compiler and processor apart."""
    return Path(native.chosen()).stem or None if jax.default_backend() == "cpu" else None


def environment() -> dict[str, Any]:
    """What this process computes on."""
    return {
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "xla_threads": _threads(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "kernels": _kernels(),
        "compilation_cache": os.environ.get("JAX_COMPILATION_CACHE_DIR"),
    }


def serve(commands: IO[bytes], answers: IO[bytes]) -> None:
    """Do what the parent says until it closes the pipe, then end at once, even in the middle of a trial."""
    lines: queue.SimpleQueue[messages.Message] = queue.SimpleQueue()

    def listen() -> None:
        for line in commands:
            try:
                command = messages.decode_command(line)
            except ValueError as error:  # another version's; the parent hears of it by this worker's end
                print(f"this worker does not understand its parent: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            if isinstance(command, messages.Stop):
                worker.stopping.set()
            lines.put(command)
        os._exit(0)

    lock = threading.Lock()

    def emit(event: messages.AnyEvent) -> None:
        with lock:
            try:
                answers.write(messages.encode(event))
                answers.flush()
            except BrokenPipeError:
                os._exit(0)

    setup = messages.decode_command(commands.readline())
    if not isinstance(setup, messages.Setup) or setup.version != messages.PROTOCOL_VERSION:
        raise InputError("the parent speaks another version of the protocol; use one dlbench throughout")
    sys.path.extend(path for path in setup.sys_path if path not in sys.path)
    if setup.kernels is not None:
        os.environ[native.VARIABLE] = setup.kernels
        native.use_cores(setup.cores)
    worker = Worker(
        setup.worker, Path(setup.study_dir), setup.data_dir, setup.checkpoint_every, emit, setup.started
    )
    threading.Thread(target=listen, daemon=True).start()
    emit(messages.Ready(worker=setup.worker, environment=environment()))
    while True:
        command = lines.get()
        if isinstance(command, messages.Train):
            worker.run(command.trials)


def main() -> None:
    """The worker process: what anybody prints goes to standard error, answers have a pipe of their own."""
    if sys.argv[1:] == ["--environment"]:
        json.dump(environment(), sys.stdout)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
