"""Train the CNN of configs/10-cifar-tutorial.yaml in PyTorch, as tutorials do.

``python scripts/cifar_tutorial.py CIFAR_FOLDER`` trains on all 50,000 pictures for ten epochs with Adam and batches of
64, and prints the accuracy on the test pictures after the last epoch, for each learning rate and seed. The folder holds
``train`` and ``test`` with a folder of pictures for each class. A run takes about six minutes on one core.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import os
from typing import Any

from dlbench import data

BATCH, EPOCHS = 64, 10


def train(job: tuple[str, float, int]) -> float:
    """The accuracy after the last epoch."""
    import numpy as np
    import torch
    from torch.nn import functional

    from dlbench.bench.torch_networks import make_torch

    reference, rate, seed = job
    dataset = data.load(reference)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = make_torch("CIFAR-CNN", (32, 32, 3), seed).to(memory_format=torch.channels_last)
    tx = torch.optim.Adam(net.parameters(), rate)

    def tensors(images: Any, labels: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2), torch.from_numpy(
            np.array(labels, np.int64)
        )

    def scaled(pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels.float() / 255 - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)

    images, labels = tensors(dataset.train_images, dataset.train_labels)
    net.train()
    for _ in range(EPOCHS):
        for part in torch.randperm(len(labels)).split(BATCH):
            tx.zero_grad()
            functional.cross_entropy(net(scaled(images[part])), labels[part]).backward()
            tx.step()
    images, labels = tensors(dataset.test_images, dataset.test_labels)
    net.eval()
    with torch.inference_mode():
        answers = torch.cat([net(scaled(part)).argmax(1) for part in images.split(100)])
    return float((answers == labels).float().mean())


def main() -> None:
    """Print an accuracy for each learning rate and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-2, 1e-3, 1e-4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    reference = data.load(f"folder:{asked.folder}").reference
    jobs = [(reference, rate, seed) for rate, seed in itertools.product(asked.rates, range(asked.seeds))]
    with concurrent.futures.ProcessPoolExecutor(asked.processes) as pool:
        for (_, rate, seed), accuracy in zip(jobs, pool.map(train, jobs), strict=True):
            print(f"learning rate {rate:g}, seed {seed}: {100 * accuracy:.2f} %", flush=True)


if __name__ == "__main__":
    main()
