"""Measure how fast images are streamed and how much memory that takes: the figures of docs/data.md.

``python scripts/streaming.py`` trains a trial for an epoch, in memory and streamed, turn by turn, on random images of
32x32x3, and compares speed and bits. With ``--memory 512MiB`` the set is ten times as large as that, and it is streamed
only. Each run is a process that plans, checks and trains; printed is the largest resident memory that one of them had.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

import dlbench
from dlbench.bench.serving import peak_bytes
from dlbench.data import mapped
from dlbench.spec.quantities import BYTES, quantity

SHAPE = (32, 32, 3)


def registered(count: int) -> str:
    """A data set of random images, nine of ten for training, in the cache."""
    draw = np.random.default_rng(0)
    sizes = (min(10_000, count - start) for start in range(0, count, 10_000))
    images = mapped.in_file(draw.integers(0, 256, (size, *SHAPE), np.uint8) for size in sizes)
    labels, cut = np.arange(count) % 10, count * 9 // 10
    return dlbench.data.register(
        dlbench.from_arrays("random", images[:cut], labels[:cut], images[cut:], labels[cut:])
    )


def train(dataset: str, model: str, train_size: int, memory: str) -> dict[str, Any]:
    """Train one trial in this process."""
    study = dlbench.grid(
        dataset=dataset, model=model, batch_size=64, train_size=train_size, val_size=5_000, num_epochs=1
    )
    with tempfile.TemporaryDirectory() as folder:
        (trial,) = dlbench.run(study, workers=0, data_memory=memory, out=folder, reuse=False)
    if trial.error:
        raise SystemExit(trial.error)
    bits = [trial.params_sha256, trial.history_sha256]
    return {"images_per_s": trial.images_per_s, "peak_bytes": peak_bytes(), "bits": bits}


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="CIFAR-CNN")
    parser.add_argument("--memory", help="memory for images; the set is ten times as large")
    parser.add_argument("--train-size", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        dataset, model, size, memory = asked.one
        print(json.dumps(train(dataset, model, int(size), memory)))
        return
    if asked.memory:
        count, memories = int(10 * quantity("memory", asked.memory, BYTES) / np.prod(SHAPE)), [asked.memory]
    else:
        count, memories = 62_000, ["2GiB", "16MiB"]
    dataset = registered(count)
    print(f"{count:,} images, {count * np.prod(SHAPE) / 2**20:,.0f} MiB; {asked.train_size:,} are trained on")
    runs: dict[str, list[dict[str, Any]]] = {memory: [] for memory in memories}
    for memory in memories * (1 if asked.memory else asked.rounds):
        command = [sys.executable, __file__, "--one", dataset, asked.model, str(asked.train_size), memory]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        runs[memory].append(json.loads(done.stdout.splitlines()[-1]))
    for memory, found in runs.items():
        speed = statistics.median(each["images_per_s"] for each in found)
        peak = max(each["peak_bytes"] for each in found)
        print(f"memory for images {memory}: {speed:,.0f} images/s, {peak / 2**20:,.0f} MiB resident")
    print(f"different bits: {len({str(each['bits']) for found in runs.values() for each in found})}")


if __name__ == "__main__":
    main()
