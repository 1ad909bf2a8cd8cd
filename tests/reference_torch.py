"""The same training in PyTorch, to compare wall clocks with: ``python tests/reference_torch.py --pipeline original``.

``original`` reads images one by one through a DataLoader and per-image transforms, as the suite that dlbench
re-implements does; ``tuned`` keeps tensors in memory and slices batches out of them. Both train the five networks
of the oracle test with SGD (momentum 0.9) on MNIST from IDX files and evaluate after every epoch, with all threads.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from test_oracle import NAMES, make_torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from dlbench import data


class Images(Dataset):
    """Images as a folder of files gives them: one at a time, turned into tensors and normalised each time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        picture = Image.fromarray(self.images[index][..., 0])  # torchvision's MNIST hands out PIL images
        tensor = torch.from_numpy(np.array(picture, copy=True)).unsqueeze(0).to(torch.float32).div(255)
        return tensor.sub(0.5).div(0.5), int(self.labels[index])


def batches(images: np.ndarray, labels: np.ndarray, size: int, shuffle: bool, pipeline: str):
    """Something to iterate over once an epoch."""
    if pipeline == "original":
        return DataLoader(Images(images, labels), batch_size=size, shuffle=shuffle)
    x = torch.from_numpy(images[..., 0]).unsqueeze(1).to(torch.float32).div(255).sub(0.5).div(0.5)
    y = torch.from_numpy(labels).to(torch.int64)

    class Sliced:
        def __iter__(self):
            order = torch.randperm(len(y)) if shuffle else torch.arange(len(y))
            return ((x[part], y[part]) for part in order.split(size))

    return Sliced()


def train(name: str, arguments: argparse.Namespace, arrays: list[np.ndarray]) -> float:
    """Train one network; returns its last validation accuracy."""
    torch.manual_seed(0)
    net = make_torch(name)
    tx = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-5)
    loss_of = nn.CrossEntropyLoss()
    training = batches(arrays[0], arrays[1], arguments.batch_size, True, arguments.pipeline)
    validation = batches(arrays[2], arrays[3], arguments.batch_size, False, arguments.pipeline)
    hits = 0
    for _ in range(arguments.epochs):
        net.train()
        for x, y in training:
            tx.zero_grad()
            loss_of(net(x), y).backward()
            tx.step()
        net.eval()
        with torch.no_grad():
            hits = sum(int((net(x).argmax(1) == y).sum()) for x, y in validation)
    return hits / len(arrays[3])


def main() -> None:
    """Train the five and print the wall clock of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipeline", choices=["original", "tuned"], default="original")
    parser.add_argument("--train-size", type=int, default=6000)
    parser.add_argument("--val-size", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    mnist = data.load("mnist")
    split = data.make_split(mnist.train_labels, arguments.train_size, arguments.val_size, 0)
    arrays = [
        np.asarray(half[indices])
        for indices in (split.train_indices, split.val_indices)
        for half in (mnist.train_images, mnist.train_labels)
    ]
    for name in NAMES:
        start = time.perf_counter()
        accuracy = train(name, arguments, arrays)
        print(f"{name}: {time.perf_counter() - start:.1f} s, validation accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
