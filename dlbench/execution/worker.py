"""Train trials on one device, one program at a time, and report events.

:class:`Worker` trains in any process. ``python -m dlbench.execution.worker`` starts a worker process that is
controlled by its parent over pipes (see :mod:`dlbench.execution.messages`); with the argument ``environment`` it
prints a description of the environment instead.
"""

from __future__ import annotations

import io
import json
import math
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview

from dlbench import data
from dlbench.errors import InputError
from dlbench.execution import environment, messages, saved_states, stopping
from dlbench.execution.compiling import Executable
from dlbench.execution.images import DeviceData
from dlbench.execution.imported import check_sources
from dlbench.execution.place import MEMORY_BYTES
from dlbench.execution.processes import LEFT_TO_PARENT
from dlbench.execution.programs import (
    CompiledProgram,
    check_metric,
    check_model,
    compile_program,
    inputs_of,
    lane_of,
    mean_test_loss,
    stack,
    with_lane,
)
from dlbench.models import creation
from dlbench.models.network import network_for
from dlbench.ops import native
from dlbench.records import (
    TIME_KINDS,
    Epoch,
    Outcome,
    TrialStatus,
    convergence_epoch,
    history_digest,
    json_number,
    plateau_epoch,
)
from dlbench.spec.metrics import metric_key, metric_of
from dlbench.spec.parts import Arguments
from dlbench.spec.registry import label
from dlbench.spec.trial import Trial
from dlbench.storage import checkpoints
from dlbench.storage.artifacts import Files
from dlbench.storage.database import disk_problem
from dlbench.training.augmentation import transform_images
from dlbench.training.losses import weights_of_classes
from dlbench.training.metrics import IN_PROGRAM, hits, measure
from dlbench.training.state import Data, Hyper, Keys, Params, Pixels, TrainState, static_part
from dlbench.training.stopping import is_ended, is_stopped

#: Seed of the transform of test images, the same for every trial.
TRANSFORMED_TEST_SEED = 0
#: In place of an epoch, what the key of augmentation is combined with for validation images.
VALIDATION = 2**32 - 1
#: Seconds between saved states of a trial, unless a number of epochs is given.
SAVE_AFTER_S = 60.0
#: The part of its time for which a worker has a processor, at least, where the time is a measure of its work.
BUSY = 0.8
Emit = Callable[[messages.AnyEvent], None]


class Interrupted(Exception):  # noqa: N818
    """The parent has asked the worker to stop."""


@dataclass(frozen=True)
class _Latest:
    """The trials in hand after their last complete epoch, on the device: what a saved state is made from."""

    trials: Sequence[Trial]
    state: TrainState
    histories: tuple[tuple[Epoch, ...], ...]
    ended: Mapping[int, TrainState]
    spent: dict[str, float]

    @property
    def number(self) -> int:
        """The epoch."""
        return max(map(len, self.histories))


class Worker:
    """Trains trials on this process's default device and reports events.

    Args:
        number: the worker's number in its study.
        data_dir: folder of the user's data sets.
        checkpoint_every: epochs between saved states of a trial; by default a state is saved once a minute.
        emit: called with each event.
        started: when (``time.monotonic``) the worker was started; by default now.
        keep_state: whether to save the state that each trial ends with.
        memory_bytes: the memory that the images of a data set may take; those of a larger set are streamed.
    """

    def __init__(
        self,
        number: int,
        data_dir: str | None,
        checkpoint_every: int | None,
        emit: Emit,
        started: float | None = None,
        keep_state: bool = False,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._clock = Clock(time.monotonic() if started is None else started)
        self.number, self.data_dir, self.emit = number, data_dir, emit
        self.memory_bytes = memory_bytes
        self.checkpoint_every, self.keep_state = checkpoint_every, keep_state
        self.environment = environment.describe()
        #: Once set, the current trial is saved after its epoch and interrupted.
        self.stopping = threading.Event()
        self._data: dict[tuple[str, int | None], DeviceData] = {}
        self._splits: dict[object, data.Split] = {}
        self._statistics: dict[str, Pixels] = {}
        self._programs: dict[object, CompiledProgram] = {}
        self._executables: dict[object, Executable] = {}
        #: Users' models whose code changes settings that all trials of a process share, with the reason.
        self._refused: dict[str, environment.SettingError] = {}
        #: Held while a state is saved, which may happen in another thread during an epoch.
        self._saving = threading.Lock()
        self._latest: _Latest | None = None
        self._saved_number = 0

    def attach(self, emit: Emit, started: float, stopping: threading.Event) -> None:
        """Work for another run: call ``emit`` with its events, and count time from its start."""
        self.emit, self.stopping, self._clock = emit, stopping, Clock(started)

    def run(self, trials: Sequence[Trial], states: Files | None = None) -> None:
        """Train trials that share a program and a number of epochs, one per lane.

        The last event is always :class:`~dlbench.execution.messages.Idle`, even if trials fail.

        Args:
            trials: the trials.
            states: the saved states of interrupted trials, in a folder per trial id.
        """
        self._clock.lap("wait")
        if not self.stopping.is_set():
            self._try(trials, states or {})
        self._clock.lap("io")
        self.emit(messages.Idle(worker=self.number, spent=self._clock.total))

    def save(self) -> None:
        """Save the trials in hand after their last complete epoch, unless that is done. Any thread may call this.

        An epoch need not end for this: its result is another state than the one that it began with.
        """
        with self._saving:
            latest = self._latest
            if latest is None or latest.number <= self._saved_number:
                return
            for lane, (trial, history) in enumerate(zip(latest.trials, latest.histories, strict=True)):
                own = latest.ended.get(lane) or jax.device_get(lane_of(latest.state, lane, trial.lanes))
                progress = saved_states.Progress(own, history, latest.spent)
                made = saved_states.save(trial, progress, self.environment["digest"])
                self.emit(messages.StateSaved(trial_id=trial.id, number=len(history), files=made))
            self._saved_number = latest.number

    def _keep(self, latest: _Latest | None) -> None:
        with self._saving:
            self._latest = latest

    def _try(self, trials: Sequence[Trial], states: Files) -> None:
        self.emit(messages.Started(worker=self.number, trial_ids=tuple(trial.id for trial in trials)))
        try:
            self._train(trials, states)
        except Interrupted:
            self._keep(None)  # the state is saved, and the trial can be continued from it
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a model that calls sys.exit() has failed too
            self._keep(None)
            text = _encodable(traceback.format_exc())
            problem, reason = disk_problem(error), _reason(error)
            if problem:  # everything that a worker writes goes there
                reason = (
                    f"the folder for temporary files, {tempfile.gettempdir()}, cannot be written: {problem}"
                )
            for trial in trials:
                self.emit(
                    messages.Failed(trial_id=trial.id, reason=reason, traceback=text, disk=bool(problem))
                )
            self._clock.take()

    def _train(self, trials: Sequence[Trial], states: Files) -> None:
        clock = self._clock
        lanes = trials[0].lanes
        dataset = self._dataset(trials[0])
        splits = [self._split(trial, dataset) for trial in trials]
        weights = [_weights(trial, split, dataset) for trial, split in zip(trials, splits, strict=True)]
        padding = lanes - len(trials)
        inputs = stack(
            [
                _inputs(trial, split, own, dataset)
                for trial, split, own in zip(
                    *(
                        [*each, *[each[-1]] * padding]  # the lanes that are left repeat the last trial
                        for each in (trials, splits, weights)
                    ),
                    strict=True,
                )
            ],
            lanes,
        )
        clock.lap("io")
        known = len(self._programs)
        program = self._program(trials[0], dataset, *inputs)
        busy_s = clock.lap("compile")
        if len(self._programs) > known:
            self.emit(messages.Compiled(worker=self.number, trial_id=trials[0].id, busy_s=busy_s))
        state, histories = self._epochs(trials, program, inputs, states, clock)
        best, hyper = (state.best_params, state.best_batch_stats), inputs[2]
        logits = _storable(program.predict(*best, dataset.test_images, dataset.test_rows, hyper))
        if _are_probabilities(logits):
            self.emit(
                messages.Notice(
                    text=f"the model {label(trials[0].spec.model)!r} seems to end in softmax: its outputs are "
                    "probabilities, but the loss expects logits; remove the softmax, with which it trains worse"
                )
            )
        validated = _on_validation_images(program, best, dataset, splits, hyper, lanes)
        transformed = self._transformed_accuracies(trials, program, best, dataset, hyper)
        clock.lap("eval")
        finished = []
        whole = jax.device_get(
            state
        )  # once: a copy for each lane and array takes longer than to train many lanes
        for lane, (trial, split) in enumerate(zip(trials, splits, strict=True)):
            own = lane_of(whole, lane, lanes)
            outcome = self._outcome(trial, split, histories[lane], own)
            made: dict[str, bytes] = {}
            if histories[lane][-1].is_finite:
                sha256 = outcome["best_params_sha256"]
                tested, made = self._test(
                    trial, dataset, own, lane_of(logits, lane, lanes), sha256, weights[lane]
                )
                outcome |= tested
                made |= {"val_logits.npy": _array_bytes(validated[lane])}
                if transformed[lane] is not None:
                    outcome["test_accuracy_augmented"] = transformed[lane]
            finished.append((outcome, made))
        clock.lap("io")
        spent = clock.take()
        for trial, history, (outcome, made) in zip(trials, histories, finished, strict=True):
            outcome |= {f"{kind}_time_s": seconds / len(trials) for kind, seconds in spent.items()}
            outcome["compile_time_alone_s"] = program.compile_s
            outcome["memory_bytes"] = program.memory_bytes
            outcome["images_per_s"] = len(history) * (trial.spec.train_size or 0) / outcome["train_time_s"]
            self.emit(
                messages.Finished(
                    trial_id=trial.id,
                    status=TrialStatus.COMPLETE if history[-1].is_finite else TrialStatus.DIVERGED,
                    outcome=Outcome.from_record(outcome),
                    history=tuple(history),
                    files=made,
                )
            )

    def _epochs(
        self, trials: Sequence[Trial], program: CompiledProgram, inputs: Any, states: Files, clock: Clock
    ) -> tuple[TrainState, list[list[Epoch]]]:
        """Train until the last epoch, or until every lane has diverged or stopped early.

        A lane that has ended keeps the state that it ended with.

        Raises:
            Interrupted: the parent has asked the worker to stop; the state is saved.
        """
        state = program.init(*inputs)
        state, histories, ended = self._restored(trials, state, states, clock)
        self._saved_number = max(map(len, histories))
        saved = time.monotonic()
        for number in range(max(map(len, histories)) + 1, trials[0].spec.num_epochs + 1):
            if len(ended) == len(trials):
                break
            if self.stopping.is_set():
                self.save()
                raise Interrupted
            trained = program.train_epoch(state, *inputs)
            state, loss, accuracy = jax.block_until_ready(trained)
            busy_s = clock.lap("train")
            state, val_loss, val_accuracy, own = program.validate(state, inputs[0], inputs[2])
            values = np.stack([np.atleast_1d(x) for x in (loss, accuracy, val_loss, val_accuracy)], axis=1)
            clock.lap("eval")
            for lane, trial in enumerate(trials):
                if lane in ended:
                    continue
                value = own[lane] if own is not None and math.isfinite(own[lane]) else None
                epoch = Epoch.of([*map(float, values[lane]), value])
                histories[lane].append(epoch)
                self.emit(messages.EpochEnded(trial_id=trial.id, number=number, values=epoch, busy_s=busy_s))
                if is_ended(trial.spec, histories[lane]):
                    ended[lane] = jax.device_get(lane_of(state, lane, trial.lanes))
            spent = {kind: seconds / len(trials) for kind, seconds in clock.job.items()}
            self._keep(_Latest(trials, state, tuple(map(tuple, histories)), dict(ended), spent))
            if number < trials[0].spec.num_epochs and self._is_due(number, saved):
                self.save()
                saved = time.monotonic()
            clock.lap("io")
        if self.keep_state:
            self.save()
            clock.lap("io")
        self._keep(None)
        for lane, own in ended.items():
            state = with_lane(state, lane, own, trials[0].lanes)
        return state, histories

    def _is_due(self, number: int, saved: float) -> bool:
        if self.checkpoint_every is None:
            return time.monotonic() - saved > SAVE_AFTER_S
        return number % self.checkpoint_every == 0

    def _restored(
        self, trials: Sequence[Trial], state: TrainState, states: Files, clock: Clock
    ) -> tuple[TrainState, list[list[Epoch]], dict[int, TrainState]]:
        """The saved states of these trials if all that have not ended are at the same epoch, else the initial state.

        Returns:
            The state, the epochs so far, and the states of the lanes that have ended.
        """
        lanes = trials[0].lanes
        example = lane_of(state, 0, lanes)

        def warn(text: str) -> None:
            self.emit(messages.Notice(text=text))

        found = [
            saved_states.restore(
                {
                    name.partition("/")[2]: content
                    for name, content in states.items()
                    if name.startswith(trial.id)
                },
                trial,
                self.environment["digest"],
                example,
                warn,
            )
            for trial in trials
        ]
        kept = [progress for progress in found if progress is not None]
        ended = {
            lane: progress.state
            for lane, (trial, progress) in enumerate(zip(trials, found, strict=True))
            if progress is not None and is_ended(trial.spec, progress.history)
        }
        going = {
            int(each.state.epoch) for lane, each in enumerate(found) if each is not None and lane not in ended
        }
        if len(kept) < len(trials) or len(going) > 1:
            return state, [[] for _ in trials], {}
        for trial, progress in zip(trials, kept, strict=True):
            for number, values in enumerate(progress.history, start=1):
                self.emit(messages.EpochEnded(trial_id=trial.id, number=number, values=values))
            for kind, seconds in progress.spent.items():
                clock.job[kind] += seconds
        padded = [*kept, *[kept[-1]] * (lanes - len(kept))]
        restored = jax.tree.map(jnp.asarray, stack([progress.state for progress in padded], lanes))
        return restored, [list(progress.history) for progress in kept], ended

    def _outcome(
        self, trial: Trial, split: data.Split, history: list[Epoch], state: TrainState
    ) -> dict[str, Any]:
        """The values known for every trial that was trained, including diverged ones, as a flat record."""
        diverged = not history[-1].is_finite
        losses = [epoch.train_loss for epoch in history]
        best = int(state.best_epoch)
        if not best and not diverged:
            raise InputError(
                f"the metric {trial.spec.selection_metric!r} was not finite after any epoch, so no epoch is the best",
                field="selection_metric",
                value=trial.spec.selection_metric,
            )
        return {
            "num_params": int(parameter_overview.count_parameters(state.params)),
            "best_val_accuracy": json_number(history[best - 1].val_accuracy) if best else None,
            "best_val_loss": json_number(history[best - 1].val_loss) if best else None,
            "best_epoch": best or None,
            "convergence_epoch": None if diverged else convergence_epoch(losses, len(history)),
            "plateau_epoch": None if diverged else plateau_epoch(losses),
            "diverged_epoch": len(history) if diverged else None,
            "stopped_epoch": len(history) if is_stopped(trial.spec, history) else None,
            "split_digest": split.digest,
            "params_sha256": checkpoints.tree_digest((state.params, state.batch_stats)),
            "best_params_sha256": checkpoints.tree_digest((state.best_params, state.best_batch_stats)),
            "history_sha256": history_digest(history),
            **self._own_metric(trial, history[best - 1] if best else None),
            "environment": self.environment["digest"],
            "device": jax.devices()[0].device_kind,
            "xla_threads": self.environment["xla_threads"],
            "worker": self.number,
        }

    @staticmethod
    def _own_metric(trial: Trial, best: Epoch | None) -> dict[str, float | None]:
        """The validation metric of the best epoch, where it is neither loss nor accuracy."""
        name = metric_of(trial.spec, "val")
        if name in IN_PROGRAM:
            return {}
        return {metric_key(name): best.val_metric if best else None}

    def _test(
        self,
        trial: Trial,
        dataset: DeviceData,
        state: TrainState,
        logits: np.ndarray[Any, Any],
        sha256: str,
        weights: jax.Array | None,
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Metrics on the test images, and the trial's files: checkpoint and predictions."""
        best = checkpoints.best_files(
            trial,
            dataset.num_classes,
            state.best_params,
            state.best_batch_stats,
            sha256,
            self._pixels(trial, dataset),
        )
        loss = mean_test_loss(trial, logits, dataset.test_labels, weights)
        metrics = {
            "test_loss": json_number(float(loss)),
            **measure(trial.spec, logits, np.asarray(dataset.test_labels)),
        }
        return metrics, best | {"test_logits.npy": _array_bytes(logits)}

    def _transformed_accuracies(
        self,
        trials: Sequence[Trial],
        program: CompiledProgram,
        best: tuple[Params, Params],
        dataset: DeviceData,
        hyper: Hyper,
    ) -> list[float | None]:
        """For each trial, the accuracy on transformed test images; ``None`` where it is not tested on any."""
        wanted = [_test_transform(trial) for trial in trials]
        found: list[float | None] = [None] * len(trials)
        labels = np.asarray(dataset.test_labels)
        for transform in dict.fromkeys(each for each in wanted if each is not None):
            name, arguments = transform
            images = jax.jit(lambda images, key: transform_images(name, dict(arguments), images, key))(  # noqa: B023
                dataset.tested(), jax.random.key(TRANSFORMED_TEST_SEED)
            )
            logits = program.predict(*best, images, None, hyper)
            for lane, trial in enumerate(trials):
                if wanted[lane] == transform:
                    correct = hits(lane_of(logits, lane, trial.lanes), labels)
                    found[lane] = json_number(float(correct.mean()))
        return found

    def _dataset(self, trial: Trial) -> DeviceData:
        spec, key = trial.spec, (trial.data_digest, trial.spec.test_size)
        if key not in self._data:
            reference = f"{spec.dataset.partition('@')[0]}@{trial.data_digest}"
            found = data.load(reference, self.data_dir, verify=True)
            self._data.clear()  # only one data set is kept in memory, because they can be large
            self._data[key] = DeviceData.of(found, spec.test_size, self.memory_bytes)
        return self._data[key]

    def _pixels(self, trial: Trial, dataset: DeviceData) -> Pixels | None:
        if trial.spec.normalize == "half":
            return None
        if trial.data_digest not in self._statistics:
            mean, deviation = data.channel_statistics(np.asarray(dataset.train_images))
            self._statistics[trial.data_digest] = (
                tuple(map(float, mean)),
                tuple(map(float, deviation)),
            )
        return self._statistics[trial.data_digest]

    def _split(self, trial: Trial, dataset: DeviceData) -> data.Split:
        spec = trial.spec
        sizes = spec.train_size, spec.val_size
        drawn = spec.split_seed, spec.sampling, spec.val_from, spec.folds, spec.fold
        key = (trial.data_digest, *sizes, *drawn)
        if key not in self._splits:
            self._splits[key] = data.split_of(dataset, spec)
        return self._splits[key]

    def _program(
        self, trial: Trial, dataset: DeviceData, arrays: Data, keys: Keys, hyper: Hyper
    ) -> CompiledProgram:
        reference = trial.spec.model
        if reference in self._refused:
            raise self._refused[reference]
        try:
            program = self._compiled(trial, dataset, arrays, keys, hyper)
            environment.check_settings(
                f"take the setting out of the code of {reference!r}: trials share this process"
            )
            return program
        except environment.SettingError as error:
            self._refused[reference] = error
            raise
        finally:
            environment.restore_settings()

    def _compiled(
        self, trial: Trial, dataset: DeviceData, arrays: Data, keys: Keys, hyper: Hyper
    ) -> CompiledProgram:
        check_sources(trial)
        static = static_part(network_for(trial, dataset.num_classes), trial, self._pixels(trial, dataset))
        shapes = (
            *(array.shape for array in jax.tree.leaves(arrays)),
            len(dataset.test_labels),
            dataset.part_bytes,
        )
        key = (static, trial.model_digest, trial.part_digests, trial.lanes, shapes, jax.tree.structure(hyper))
        if key not in self._programs:
            self.emit(messages.Compiling(worker=self.number, trial_id=trial.id))
            check_model(creation.create_for(trial, dataset.num_classes), dataset, trial)
            check_metric(trial, dataset)
            done = self._executables
            self._programs[key] = compile_program(static, dataset, arrays, keys, hyper, trial, done)
        return self._programs[key]


def _inputs(
    trial: Trial, split: data.Split, weights: jax.Array | None, dataset: DeviceData
) -> tuple[Data, Keys, Hyper]:
    """What the compiled functions take of a trial."""
    keys, hyper = inputs_of(trial)
    transforms = trial.spec.val_transform != "standard"
    val_key = jax.random.fold_in(keys.augment, VALIDATION) if transforms else None
    return dataset.split(split)._replace(class_weights=weights, val_key=val_key), keys, hyper


def _weights(trial: Trial, split: data.Split, dataset: DeviceData) -> jax.Array | None:
    """The class weights of a trial, on the device."""
    labels = np.asarray(dataset.train_labels)[split.train_indices]
    found = weights_of_classes(trial.spec, labels, dataset.num_classes)
    return None if found is None else jnp.asarray(found)


def _storable(logits: Any) -> np.ndarray[Any, Any]:
    """Logits in a type that numpy can store: float32 instead of bfloat16 and similar types."""
    found = np.asarray(logits)
    return found if found.dtype.kind == "f" and found.dtype.isbuiltin else found.astype(np.float32)


def _array_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array as the bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _on_validation_images(
    program: CompiledProgram,
    best: tuple[Params, Params],
    dataset: DeviceData,
    splits: Sequence[data.Split],
    hyper: Hyper,
    lanes: int,
) -> list[np.ndarray[Any, Any]]:
    """The logits of each trial's best epoch for its own validation images, in ascending order of their indices.

    Lanes share images here, so each different split is computed for all lanes.
    """
    by_split = {
        split.digest: _storable(program.predict(*best, split.half(dataset)[0], split.val_indices, hyper))
        for split in {split.digest: split for split in splits}.values()
    }
    return [lane_of(by_split[split.digest], lane, lanes) for lane, split in enumerate(splits)]


def _are_probabilities(logits: np.ndarray[Any, Any]) -> bool:
    """Whether every row lies in [0, 1] and adds up to 1."""
    if logits.shape[-1] < 2 or not (logits.min() >= 0 and logits.max() <= 1):
        return False
    return bool((np.abs(logits.sum(axis=-1, dtype=np.float64) - 1) < 1e-2).all())


def _reason(error: BaseException) -> str:
    """An error in one line; converting it to text may fail as well."""
    try:
        text = str(error)
    except Exception as failed:
        text = f"its message cannot be shown: {type(failed).__name__}"
    if isinstance(error, SystemExit):
        text = f"the model ended its process, with exit code {text}"
    return _encodable(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _encodable(text: str) -> str:
    """The text, with escapes for characters that cannot be encoded."""
    return text.encode(errors="backslashreplace").decode()


def _test_transform(trial: Trial) -> tuple[str, Arguments] | None:
    """The transform of the images on which a trial is tested besides the plain ones, and its arguments."""
    spec = trial.spec
    if spec.test_transform != "standard":
        return spec.test_transform, spec.test_transform_args
    return ("augmented", ()) if spec.test_augmented or spec.transform == "augmented" else None


class Clock:
    """Seconds by kind, measured from lap to lap, so that all of a worker's time is accounted for.

    ``total`` adds up to the time since ``started``. ``job`` is the part that counts towards the current trials. It
    includes the worker's start or its waiting before them, and the time that they had spent before an interruption.
    """

    def __init__(self, started: float) -> None:
        self.total = dict.fromkeys(TIME_KINDS, 0.0)
        self.job = dict.fromkeys(TIME_KINDS, 0.0)
        self._last = started
        self._busy = time.process_time if jax.default_backend() == "cpu" else time.monotonic
        self._busy_last = self._busy()

    def lap(self, kind: str) -> float | None:
        """Count the time since the last lap as time of this kind.

        Returns:
            The seconds for which the device was busy; ``None`` if the process waited for a processor, since what it
            then takes says little.
        """
        now, busy = time.monotonic(), self._busy()
        seconds, busy_s = now - self._last, busy - self._busy_last
        self.total[kind] += seconds
        self.job[kind] += seconds
        self._last, self._busy_last = now, busy
        return busy_s if busy_s >= BUSY * seconds else None

    def take(self) -> dict[str, float]:
        """The time that the current trials have spent; starts again from zero for the next ones."""
        spent, self.job = self.job, dict.fromkeys(TIME_KINDS, 0.0)
        return spent


class Server:
    """A worker that executes its parent's commands, whatever carries them.

    Args:
        setup: the parent's first message.
        emit: called with each event, from any thread.
        end: called after the last event of a worker that has stopped.

    Raises:
        InputError: the parent is of another version.
    """

    def __init__(self, setup: messages.AnyCommand, emit: Emit, end: Callable[[], object]) -> None:
        if not isinstance(setup, messages.Setup) or setup.version != messages.PROTOCOL_VERSION:
            raise InputError(
                "the parent uses another version of the protocol; use one version of dlbench throughout"
            )
        sys.path.extend(path for path in setup.sys_path if path not in sys.path)
        if setup.kernels is not None:
            os.environ[native.VARIABLE] = setup.kernels
            native.use_cores(setup.cores)
        self._worker = Worker(
            setup.worker,
            setup.data_dir,
            setup.checkpoint_every,
            emit,
            setup.started,
            setup.keep_state,
            setup.memory_bytes,
        )
        self._jobs: queue.SimpleQueue[messages.Train] = queue.SimpleQueue()
        self._end = end
        emit(messages.Ready(worker=setup.worker, environment=self._worker.environment, node=setup.node))

    def receive(self, command: messages.AnyCommand) -> None:
        """Take a command; returns at once. Any thread may call this."""
        if isinstance(command, messages.Stop):
            self._worker.stopping.set()
            threading.Thread(target=self._stop, daemon=True).start()
        if isinstance(command, messages.Train):
            self._jobs.put(command)

    def run(self) -> NoReturn:
        """Train the jobs as they come."""
        while True:
            command = self._jobs.get()
            self._worker.run(command.trials, command.files)

    def _stop(self) -> None:
        """Save what is complete, and end, even if the epoch takes too long."""
        for seconds in stopping.pauses():
            time.sleep(seconds)
            self._worker.save()
        self._end()


def serve(commands: IO[bytes], answers: IO[bytes]) -> None:
    """Execute the parent's commands until it closes the pipe, then exit at once, even in the middle of a trial."""
    lock = threading.Lock()

    def emit(event: messages.AnyEvent) -> None:
        with lock:
            try:
                answers.write(messages.encode(event))
                answers.flush()
            except BrokenPipeError:
                os._exit(0)

    def listen() -> None:
        while True:
            try:
                command = messages.read_command(commands)
            except ValueError as error:  # another version; the parent notices that this worker exits
                print(f"this worker does not understand its parent: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            if command is None:
                os._exit(0)
            server.receive(command)

    setup = messages.read_command(commands)
    if setup is None:
        return  # the parent is gone already
    server = Server(setup, emit, lambda: os._exit(0))
    threading.Thread(target=listen, daemon=True).start()
    server.run()


def main() -> None:
    """Run a worker process. Standard output is redirected to standard error; events use a pipe of their own."""
    if sys.argv[1:] == ["environment"]:
        json.dump(environment.describe(), sys.stdout)
        return
    for number in LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, LEFT_TO_PARENT
    )  # they were held back while this process started
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, answers)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an orderly end would wait for the thread that reads


if __name__ == "__main__":
    main()
