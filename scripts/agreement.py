"""Train a narrow ResNet-18 in dlbench and in PyTorch with the same recipe, and compare the mean test accuracies.

Run it with ``python scripts/agreement.py CIFAR_FOLDER``. The folder holds ``train`` and ``test`` with a folder of
pictures for each class. Both sides train on the same images, choose the epoch on the same validation images, and are
tested on the same images; initial weights, order and augmentation are drawn by each side itself. Printed are the means
over seeds with their 95 % intervals, and Welch's 95 % interval of the difference.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import statistics
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

import dlbench
from dlbench import data

TRAIN, VAL, TEST = 4_500, 500, 2_000
BATCH, RATE, DECAY = 64, 0.05, 5e-4


def pictures(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first pictures of each class, uint8 [count, 32, 32, 3], and their labels."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    each = count // len(classes)
    files = [(file, label) for label, path in enumerate(classes) for file in sorted(path.iterdir())[:each]]
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file, _ in files])
    return images, np.array([label for _, label in files])


def in_dlbench(dataset: data.Dataset, width: int, epochs: int, seeds: int) -> list[float]:
    """Test accuracies of dlbench's trials."""
    study = dlbench.grid(
        dataset=dataset,
        model=f"resnet18(width={width})",
        optimizer="sgd(nesterov=True)",
        lr=RATE,
        schedule="cosine(warmup=1)",
        weight_decay=DECAY,
        decay_mode="l2",
        transform="flip+crop(padding=4)",
        batch_size=BATCH,
        epochs=epochs,
        train_size=TRAIN,
        val_size=VAL,
        split_seed=0,
        seeds=seeds,
    )
    result = dlbench.run(study, out=f"runs/agreement-{width}-{epochs}-{seeds}")
    return [float(trial.test_accuracy) for trial in result.complete]


def in_torch(job: tuple[data.Dataset, int, int, int]) -> float:
    """Test accuracy of one seed in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    from dlbench.bench.torch_networks import make_torch

    dataset, width, epochs, seed = job
    torch.set_num_threads(1)
    net = make_torch("ResNet-18", (32, 32, 3), seed, width=width).to(memory_format=torch.channels_last)
    split = data.make_split(dataset.train_labels, TRAIN, VAL, 0)

    def tensors(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous()
        return pixels, torch.from_numpy(np.array(labels, np.int64))

    def scaled(pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels.float() / 255 - 0.5) / 0.5).to(memory_format=torch.channels_last)

    def accuracy(pixels: torch.Tensor, labels: torch.Tensor) -> float:
        net.eval()
        with torch.inference_mode():
            logits = torch.cat([net(scaled(part)) for part in pixels.split(100)])
        return float((logits.argmax(1) == labels).float().mean())

    def augmented(pixels: torch.Tensor) -> torch.Tensor:
        count = len(pixels)
        flipped = torch.where(torch.rand(count, 1, 1, 1) < 0.5, pixels.flip(3), pixels)
        padded = functional.pad(flipped, (4, 4, 4, 4))
        offsets = torch.randint(0, 9, (count, 2)).tolist()
        return torch.stack(
            [image[:, y : y + 32, x : x + 32] for image, (y, x) in zip(padded, offsets, strict=True)]
        )

    train = tensors(dataset.train_images[split.train_indices], dataset.train_labels[split.train_indices])
    val = tensors(dataset.train_images[split.val_indices], dataset.train_labels[split.val_indices])
    test = tensors(dataset.test_images, dataset.test_labels)
    tx = torch.optim.SGD(net.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=DECAY)
    steps = -(-TRAIN // BATCH)

    def factor(step: int) -> float:
        if step < steps:
            return (step + 1) / steps
        return (1 + np.cos(np.pi * (step - steps) / (steps * (epochs - 1)))) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(tx, factor)
    best, tested = -1.0, 0.0
    for _ in range(epochs):
        net.train()
        for part in torch.randperm(TRAIN).split(BATCH):
            tx.zero_grad()
            nn.functional.cross_entropy(net(scaled(augmented(train[0][part]))), train[1][part]).backward()
            tx.step()
            schedule.step()
        if (found := accuracy(*val)) > best:
            best, tested = found, accuracy(*test)
    return tested


def summary(name: str, values: list[float]) -> None:
    """Print a mean with its Student t interval."""
    mean = statistics.mean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    print(f"{name}: {100 * mean:.2f} ± {100 * half:.2f} % ({', '.join(f'{100 * v:.2f}' for v in values)})")


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    halves = [
        pictures(options.folder / half, count) for half, count in (("train", TRAIN + VAL), ("test", TEST))
    ]
    dataset = dlbench.from_arrays("cifar-pictures", *halves[0], *halves[1])
    ours = in_dlbench(dataset, options.width, options.epochs, options.seeds)
    summary("dlbench", ours)
    jobs = [(dataset, options.width, options.epochs, seed) for seed in range(options.seeds)]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        theirs = list(pool.map(in_torch, jobs))
    summary("PyTorch", theirs)
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    low, high = 100 * interval.low, 100 * interval.high
    print(
        f"difference: {100 * (statistics.mean(ours) - statistics.mean(theirs)):+.2f} points [{low:+.2f}, {high:+.2f}]"
    )


if __name__ == "__main__":
    main()
