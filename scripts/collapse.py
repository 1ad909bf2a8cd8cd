"""Train some cells of the collapse map in PyTorch, and count collapses beside those of dlbench's export.

Run it with ``python scripts/collapse.py experiments/12-collapse/trials.csv``, for some minutes. Both sides train on the
same images, 800 for each seed, and have collapsed if their accuracy on the same 1,000 test images is not above that of
always answering with the most frequent class, by its 95 % Wilson interval. Printed is a Markdown table; p is that of
Fisher's exact test.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from dlbench import data
from dlbench.bench.torch_reference import (
    Variant,
    make_optimizer,
    make_torch,
    tensors,
    tuned_epoch,
    tuned_evaluation,
)
from dlbench.report import exports
from dlbench.stats import wilson_interval

#: Network, optimizer, learning rate and batch size.
CELLS = [
    ("Baseline", "adam", 1e-2, 8),
    ("Baseline", "adam", 3e-2, 32),
    ("Baseline", "sgd", 1e-1, 32),
    ("SimpleCNN", "adam", 1e-2, 8),
    ("SimpleCNN", "sgd", 1e-1, 32),
    ("Stabilized", "adam", 3e-2, 8),
    ("Modernist", "adam", 1e-2, 8),
]
SEEDS, EPOCHS, TEST = 20, 10, 1_000


def collapsed_in_torch(model: str, optimizer: str, rate: float, batch_size: int, seed: int) -> bool:
    """Whether a run collapses: tested are the parameters of the best validation epoch."""
    digits, plain = data.load("mnist", test_size=TEST), Variant()
    split = data.make_split(digits.train_labels, 800, 200, seed)
    train, val = (
        tensors(digits.train_images[indices], digits.train_labels[indices], plain)
        for indices in (split.train_indices, split.val_indices)
    )
    test = tensors(digits.test_images, digits.test_labels, plain)
    net = make_torch(model, seed)
    tx = make_optimizer(net, optimizer, rate)
    best, accuracy = -1.0, 0.0
    for _ in range(EPOCHS):
        tuned_epoch(net, tx, *train, batch_size)
        found = tuned_evaluation(net, *val)[1]
        if found > best:
            best, accuracy = found, tuned_evaluation(net, *test)[1]
    chance = np.bincount(digits.test_labels).max() / TEST
    return wilson_interval(round(accuracy * TEST), TEST).low <= chance


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    result = exports.read(Path(sys.argv[1]).parent).result
    assert result is not None
    print(
        "| network | optimizer | lr | batch size | dlbench | PyTorch | p |\n| :-- | :-- | --: | --: | --: | --: | --: |"
    )
    for model, optimizer, rate, batch_size in CELLS:
        ours = [
            trial.collapsed
            for trial in result
            if (trial.model, trial.optimizer) == (model, optimizer)
            if (trial.learning_rate, trial.batch_size) == (rate, batch_size)
        ]
        theirs = [collapsed_in_torch(model, optimizer, rate, batch_size, seed) for seed in range(SEEDS)]
        table = [[sum(each), len(each) - sum(each)] for each in (ours, theirs)]
        p_value = stats.fisher_exact(table).pvalue
        counts = " | ".join(f"{sum(each)} of {len(each)}" for each in (ours, theirs))
        print(f"| {model} | {optimizer} | {rate:g} | {batch_size} | {counts} | {p_value:.2g} |", flush=True)


if __name__ == "__main__":
    main()
