"""Train a whole study in PyTorch: ``python -m dlbench.bench.torch_trials STUDY.json``.

The file holds ``dataset``, ``train_size``, ``val_size``, ``num_epochs``, ``pipeline`` ("tuned" or "original"),
``processes``, ``threads``, and ``trials``, each with model, optimizer, learning_rate, batch_size, weight_decay and, for
the tuned loop, variant. Trials are distributed over the processes, the longest first. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing

from dlbench import data
from dlbench.bench.torch_reference import (
    Images,
    Variant,
    make_optimizer,
    make_torch,
    original_epochs,
    tensors,
    tuned_epoch,
    tuned_evaluation,
)

#: The study and its arrays in each process, so that they need not be sent with every trial.
_shared: dict[str, Any] = {}


def begin(study: dict[str, Any], arrays: list[np.ndarray[Any, Any]]) -> None:
    """Initialise a process."""
    torch.set_num_threads(study["threads"])
    _shared.update(study=study, arrays=arrays)


def run_trial(trial: dict[str, Any]) -> dict[str, Any]:
    """Train one trial; returns its best validation accuracy and the seconds it took."""
    start = time.perf_counter()
    epochs = _original if _shared["study"]["pipeline"] == "original" else _tuned
    accuracies = list(epochs(_shared["study"], _shared["arrays"], trial))
    return {"val_accuracy": max(accuracies), "train_s": time.perf_counter() - start}


def _tuned(
    study: dict[str, Any], arrays: list[np.ndarray[Any, Any]], trial: dict[str, Any]
) -> Iterator[float]:
    variant = Variant(*trial["variant"])
    net = variant.place(make_torch(trial["model"]))
    tx = make_optimizer(net, trial["optimizer"], trial["learning_rate"], trial["weight_decay"], variant)
    images, labels, val_images, val_labels = arrays
    training, validation = tensors(images, labels, variant), tensors(val_images, val_labels, variant)
    for _ in range(study["num_epochs"]):
        tuned_epoch(net, tx, *training, trial["batch_size"])
        yield tuned_evaluation(net, *validation)[1]


def _original(
    study: dict[str, Any], arrays: list[np.ndarray[Any, Any]], trial: dict[str, Any]
) -> Iterator[float]:
    net = make_torch(trial["model"])
    tx = make_optimizer(net, trial["optimizer"], trial["learning_rate"], trial["weight_decay"])
    halves = Images(*arrays[:2]), Images(*arrays[2:])
    return original_epochs(net, tx, *halves, trial["batch_size"], study["num_epochs"])


def arrays_of(study: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """Images and labels of the training and of the validation half."""
    dataset = data.load(study["dataset"], study["data_dir"])
    split = data.make_split(dataset.train_labels, study["train_size"], study["val_size"], 0)
    return [
        np.array(half[indices])
        for indices in (split.train_indices, split.val_indices)
        for half in (dataset.train_images, dataset.train_labels)
    ]


def main() -> None:
    """Train the study in the file named on the command line."""
    study = json.loads(Path(sys.argv[1]).read_text())
    arrays = arrays_of(study)
    if study["processes"] == 1:
        begin(study, arrays)
        results = list(map(run_trial, study["trials"]))
    else:
        # Forked before any thread is started, so that the children need not import PyTorch again.
        context = torch.multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        with context.Pool(study["processes"], initializer=begin, initargs=(study, arrays)) as pool:
            results = list(pool.imap(run_trial, study["trials"], chunksize=1))
    json.dump({"trials": results}, sys.stdout)


if __name__ == "__main__":
    main()
