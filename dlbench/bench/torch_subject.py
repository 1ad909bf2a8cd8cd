"""A process that measures the networks in PyTorch, trained by the tuned loop."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import numpy as np
import torch

from dlbench import data
from dlbench.bench import torch_networks
from dlbench.bench.serving import peak_bytes, serve
from dlbench.bench.torch_reference import (
    NAMES,
    VARIANTS,
    Variant,
    make_optimizer,
    make_torch,
    tensors,
    tuned_epoch,
    tuned_evaluation,
)
from dlbench.spec import parts

#: How often each variant is tried, and the approximate number of images each time.
_ROUNDS = 3
_TRIED_IMAGES = 512
#: Height, width and channels of the images.
_IMAGE = (28, 28, 1)


class Network:
    """A network that is trained."""

    def tune(self, model: str, batch_size: int, optimizer: str) -> Variant:
        """The fastest variant on this machine, by the shortest time of three rounds, in turns."""
        images, labels = _digits(max(_TRIED_IMAGES, 2 * batch_size), 100)[:2]
        runs = []
        for variant in VARIANTS:
            net, tx = _make(model, optimizer, variant)
            x, y = tensors(images, labels, variant)
            tuned_epoch(net, tx, x[: 2 * batch_size], y[: 2 * batch_size], batch_size)
            runs.append((net, tx, x, y, batch_size))
        spent = [[_timed(run) for run in runs] for _ in range(_ROUNDS)]
        least = np.min(spent, axis=0)
        return VARIANTS[int(least.argmin())]

    def prepare(
        self,
        model: str,
        batch_size: int,
        optimizer: str,
        train_size: int,
        val_size: int,
        variant: tuple[bool, bool],
    ) -> None:
        """Load data and create the network."""
        chosen = Variant(*variant)
        self._batch_size, self._variant = batch_size, chosen
        images, labels, val_images, val_labels = _digits(train_size, val_size)
        self._training = tensors(images, labels, chosen)
        self._validation = tensors(val_images, val_labels, chosen)
        self._images = val_images
        self._net, self._tx = _make(model, optimizer, chosen)

    def train(self, epochs: int) -> tuple[float, float]:
        """Train for some epochs; returns start and end, in seconds of a clock that all processes share."""
        start = time.monotonic()
        for _ in range(epochs):
            tuned_epoch(self._net, self._tx, *self._training, self._batch_size)
        return start, time.monotonic()

    def evaluate(self, times: int) -> tuple[float, float]:
        """Evaluate the validation images some times; returns start and end, in seconds of the same clock."""
        start = time.monotonic()
        for _ in range(times):
            tuned_evaluation(self._net, *self._validation)
        return start, time.monotonic()

    def latency(self, calls: int) -> list[float]:
        """Seconds from one uint8 image on the host to its logits on the host, for each call."""
        self._net.eval()
        spent = []
        for call in range(calls):
            image = self._images[call % len(self._images)][None]
            start = time.perf_counter()
            with torch.inference_mode():
                x = torch.from_numpy(image).permute(0, 3, 1, 2).to(torch.float32)
                self._net(self._variant.place(x.div_(255).sub_(0.5).div_(0.5))).numpy()
            spent.append(time.perf_counter() - start)
        return spent


def _make(model: str, optimizer: str, variant: Variant) -> tuple[Any, Any]:
    part = parts.parse(model)
    make = make_torch if part.name in NAMES else functools.partial(torch_networks.make_torch, image=_IMAGE)
    arguments: dict[str, Any] = dict(part.arguments)
    net = variant.place(make(part.name, **arguments))
    return net, make_optimizer(net, optimizer, 1e-3, variant=variant)


def _timed(run: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    tuned_epoch(*run)
    return time.perf_counter() - start


def _digits(train_size: int, val_size: int) -> tuple[np.ndarray[Any, Any], ...]:
    dataset = data.load("mnist5k")
    split = data.make_split(dataset.train_labels, train_size, val_size, 0)
    return tuple(
        np.array(half[indices])
        for indices in (split.train_indices, split.val_indices)
        for half in (dataset.train_images, dataset.train_labels)
    )


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    network = Network()
    serve(
        {
            "tune": network.tune,
            "prepare": network.prepare,
            "train": network.train,
            "evaluate": network.evaluate,
            "latency": network.latency,
            "peak_bytes": peak_bytes,
        }
    )
