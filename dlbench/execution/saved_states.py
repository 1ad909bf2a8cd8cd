"""The state of trials that are not finished, by orbax, so that a long trial goes on where it was interrupted.

A trial keeps its newest states, each in a step of its own named after its epoch. What is torn or damaged is
passed over: the one before it, or the trial's beginning, gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from dlbench import files
from dlbench.records import Epoch
from dlbench.spec.trial import Trial
from dlbench.storage.checkpoints import tree_digest
from dlbench.training.state import TrainState

STATE = "state"
#: A newer state replaces an older one; one is kept in reserve.
KEPT = 2


@dataclass(frozen=True)
class Progress:
    """A trial after some of its epochs.

    Args:
        state: numpy arrays.
        history: the epochs so far.
        spent: seconds by kind.
    """

    state: TrainState
    history: tuple[Epoch, ...]
    spent: dict[str, float]


def save(folder: Path, trial: Trial, progress: Progress) -> None:
    """Keep a trial's state; on the disk, whole, when this returns."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(progress.state)]
    about = {
        "trial": trial.id,
        "digest": tree_digest(leaves),
        "history": [list(map(_hex, epoch)) for epoch in progress.history],
        "spent": progress.spent,
    }
    files.refuse_links(folder / STATE)
    with _manager(folder) as manager:
        manager.save(
            len(progress.history),
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave({f"{i:04d}": leaf for i, leaf in enumerate(leaves)}),
                about=ocp.args.JsonSave(about),
            ),
        )


def restore(folder: Path, trial: Trial, example: TrainState, warn: Callable[[str], None]) -> Progress | None:
    """The newest state that is whole, or nothing.

    Args:
        folder: the trial's folder.
        trial: the trial, which the state must belong to.
        example: a state (shapes will do) whose structure the restored one takes.
        warn: told of every state that is damaged.
    """
    if not (folder / STATE).is_dir():
        return None
    for step in sorted(_steps(folder), reverse=True):
        path = folder / STATE / str(step)
        try:
            return _read(path, trial, example)
        except Exception as error:  # whatever a damaged file makes orbax raise
            warn(f"the state after epoch {step} in {path} is damaged and passed over: {_first_line(error)}")
    return None


def forget(folder: Path) -> None:
    """Remove the states of a trial that has ended."""
    files.remove(folder / STATE)


def _read(path: Path, trial: Trial, example: TrainState) -> Progress:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler("state", "about")) as checkpointer:
        about = checkpointer.restore(
            path.absolute(), args=ocp.args.Composite(about=ocp.args.JsonRestore())
        ).about
        if about["trial"] != trial.id:
            raise ValueError(f"it belongs to trial {about['trial']}")
        stored = checkpointer.restore(
            path.absolute(), args=ocp.args.Composite(state=ocp.args.PyTreeRestore())
        ).state
    leaves = [np.asarray(stored[name]) for name in sorted(stored)]
    if tree_digest(leaves) != about["digest"]:
        raise ValueError("its digest is not the recorded one")
    state = jax.tree.unflatten(jax.tree.structure(example), leaves)
    history = tuple(Epoch(*map(float.fromhex, epoch)) for epoch in about["history"])
    return Progress(state, history, about["spent"])


def _manager(folder: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager((folder / STATE).absolute(), options=options)


def _steps(folder: Path) -> list[int]:
    return [int(path.name) for path in (folder / STATE).iterdir() if path.name.isdigit()]


def _hex(value: float) -> str:
    return float(value).hex()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
