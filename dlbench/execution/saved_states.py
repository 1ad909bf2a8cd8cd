"""The saved states of unfinished trials, written with orbax, from which interrupted trials continue.

A state consists of a few files, which the worker writes to a temporary folder and sends to its parent. A state that is
incomplete, damaged or from another environment is not used. Continuing from an older state, or training the trial from
the beginning, gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dlbench import files
from dlbench.records import Epoch
from dlbench.spec.trial import Trial
from dlbench.storage.artifacts import STATE, Files, write
from dlbench.storage.checkpoints import check_claims, files_below, quiet_orbax, tree_digest
from dlbench.training.schedules import is_prefix
from dlbench.training.state import TrainState


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


def save(trial: Trial, progress: Progress, environment: str) -> dict[str, bytes]:
    """The files of a saved state, by path below the trial's folder.

    Args:
        trial: the trial.
        progress: its state and history so far.
        environment: the digest of the environment in which it is trained.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(progress.state)]
    about = {
        "trial": trial.id,
        "num_epochs": trial.spec.num_epochs,
        "environment": environment,
        "digest": tree_digest(leaves),
        "history": [
            [value if value is None else _hex(value) for value in epoch] for epoch in progress.history
        ],
        "spent": progress.spent,
    }
    with files.scratch() as folder, quiet_orbax(), _checkpointer() as checkpointer:
        checkpointer.save(
            folder / STATE / str(len(progress.history)),
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave({f"{i:04d}": leaf for i, leaf in enumerate(leaves)}),
                about=ocp.args.JsonSave(about),
            ),
            force=True,
        )
        return files_below(folder, STATE)


def restore(
    kept: Files,
    trial: Trial,
    environment: str,
    example: TrainState,
    warn: Callable[[str], None],
) -> Progress | None:
    """Restore the newest undamaged state of this environment; ``None`` if there is none.

    Args:
        kept: the files of the trial's saved states.
        trial: the trial to which the state must belong, unless the same trial with fewer epochs has ended with it.
        environment: the digest of the present environment.
        example: a state, or its shapes, with the structure of the state to restore.
        warn: called with the reason for each state that is not used.
    """
    mine = {name: content for name, content in kept.items() if name.startswith(f"{STATE}/")}
    with files.scratch() as folder:
        write(folder, mine, depth=2)
        for number in sorted({int(name.split("/")[1]) for name in mine}, reverse=True):
            try:
                progress, saved_in = _read(folder / STATE / str(number), trial, example)
            except Exception as error:  # orbax raises many kinds of errors for damaged files
                reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
                warn(f"the state of trial {trial.id} after epoch {number} is damaged and not used: {reason}")
                continue
            if saved_in == environment:
                return progress
            warn(
                f"the state of trial {trial.id} after epoch {number} was saved in another environment ({saved_in}, now "
                f"{environment}) and is not used, because bits could differ; the trial is trained from the beginning"
            )
    return None


def _read(path: Path, trial: Trial, example: TrainState) -> tuple[Progress, str | None]:
    check_claims(
        path.absolute(), sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(example))
    )
    with _checkpointer() as checkpointer:
        about = checkpointer.restore(
            path.absolute(), args=ocp.args.Composite(about=ocp.args.JsonRestore())
        ).about
        if about["trial"] != trial.id and not _is_of_shorter(about, trial):
            raise ValueError(f"it belongs to trial {about['trial']}")
        stored = checkpointer.restore(
            path.absolute(), args=ocp.args.Composite(state=ocp.args.PyTreeRestore())
        ).state
    leaves = [np.asarray(stored[name]) for name in sorted(stored)]
    if tree_digest(leaves) != about["digest"]:
        raise ValueError("its digest differs from the recorded one")
    state = jax.tree.unflatten(jax.tree.structure(example), leaves)
    history = tuple(
        Epoch.of(value if value is None else float.fromhex(value) for value in epoch)
        for epoch in about["history"]
    )
    return Progress(state, history, about["spent"]), about.get("environment")


def _is_of_shorter(about: Mapping[str, Any], trial: Trial) -> bool:
    """Whether a state is one that the same trial with fewer epochs has ended with, and from which it can go on."""
    length = about.get("num_epochs", 0)
    return (
        0 < length < trial.spec.num_epochs
        and trial.of_length(length).id == about["trial"]
        and is_prefix(trial.spec, length)
    )


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler("state", "about"))


def _hex(value: float) -> str:
    return float(value).hex()
