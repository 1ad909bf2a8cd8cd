"""The five networks and their training in PyTorch, for comparisons in tests and benchmarks.

There are two training loops: :func:`tuned_epoch`, optimised for data that fit into memory, and :func:`original_epochs`,
which reads one image at a time through a DataLoader, as DeepLearningPipeline does.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

NAMES = ("SimpleCNN", "Baseline", "Stabilized", "High-Vision", "Modernist")
#: Images per step of an evaluation, as in :data:`dlbench.training.evaluation.EVAL_CHUNK`.
EVAL_CHUNK = 100


def simple_cnn() -> Any:
    """SimpleCNN."""
    return nn.Sequential(
        OrderedDict(
            conv0=nn.Conv2d(1, 32, 3),
            act0=nn.ReLU(),
            conv1=nn.Conv2d(32, 64, 3),
            act1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense0=nn.Linear(64 * 12 * 12, 128),
            act2=nn.ReLU(),
            dense1=nn.Linear(128, 10),
        )
    )


def experimental(
    kernel: int = 3, activation: str = "ReLU", batch_norm: bool = False, dropout: float = 0.0
) -> Any:
    """The other four networks."""
    act = getattr(nn, activation)
    layers: OrderedDict[str, Any] = OrderedDict()
    for i, (inputs, outputs) in enumerate([(1, 16), (16, 32)]):
        layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        if batch_norm:
            layers[f"norm{i}"] = nn.BatchNorm2d(outputs)
        layers[f"act{i}"] = act()
        layers[f"pool{i}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["dense0"] = nn.Linear(32 * 7 * 7, 128)
    layers["act2"] = act()
    layers["dropout"] = nn.Dropout(dropout)
    layers["dense1"] = nn.Linear(128, 10)
    return nn.Sequential(layers)


_NETWORKS: dict[str, Callable[..., Any]] = {
    "SimpleCNN": simple_cnn,
    "Baseline": experimental,
    "Stabilized": functools.partial(experimental, batch_norm=True, dropout=0.3),
    "High-Vision": functools.partial(experimental, kernel=5),
    "Modernist": functools.partial(experimental, activation="GELU"),
}


def make_torch(name: str, seed: int = 0, **arguments: Any) -> Any:
    """Create a network by name, with initial parameters drawn from the seed."""
    torch.manual_seed(seed)
    return _NETWORKS[name](**arguments)


class Variant(NamedTuple):
    """Settings of PyTorch that affect its speed.

    Attributes:
        channels_last: whether weights and images have the memory format ``torch.channels_last``.
        fused: whether to use the fused implementation of the optimizer instead of the one over lists of tensors
            (foreach).
    """

    channels_last: bool = False
    fused: bool = False

    def place(self, tensor: Any) -> Any:
        """Convert a network or images to the memory format."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return tensor.to(memory_format=layout)


VARIANTS = tuple(Variant(last, fused) for last in (False, True) for fused in (False, True))


def make_optimizer(
    net: Any, optimizer: str, learning_rate: float, weight_decay: float = 0.0, variant: Variant | None = None
) -> Any:
    """Adam, or SGD with momentum 0.9; L2 decay. Without a variant, PyTorch chooses the implementation."""
    how = {} if variant is None else {"fused": True} if variant.fused else {"foreach": True}
    if optimizer == "adam":
        return torch.optim.Adam(net.parameters(), learning_rate, weight_decay=weight_decay, **how)
    return torch.optim.SGD(net.parameters(), learning_rate, momentum=0.9, weight_decay=weight_decay, **how)


def tensors(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], variant: Variant) -> tuple[Any, Any]:
    """Convert images uint8 [N, 28, 28, 1] and labels to normalised float32 [N, 1, 28, 28] and int64 [N]."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(torch.float32)
    return variant.place(x.div_(255).sub_(0.5).div_(0.5).contiguous()), torch.from_numpy(
        labels.astype(np.int64)
    )


def tuned_epoch(net: Any, tx: Any, x: Any, y: Any, batch_size: int) -> tuple[float, float]:
    """Train on every image once, in a random order; losses are read back only at the end.

    Returns:
        The mean loss over the steps, and the accuracy over the images of the epoch.
    """
    net.train()
    parts = torch.randperm(len(y)).split(batch_size)
    losses, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    for part in parts:
        target = y[part]
        tx.zero_grad(set_to_none=True)
        logits = net(x[part])
        loss = nn.functional.cross_entropy(logits, target)
        loss.backward()
        tx.step()
        losses += loss.detach()
        hits += (logits.detach().argmax(1) == target).sum()
    return losses.item() / len(parts), hits.item() / len(y)


def tuned_evaluation(net: Any, x: Any, y: Any) -> tuple[float, float]:
    """Mean loss and accuracy over images."""
    net.eval()
    with torch.inference_mode():
        logits = torch.cat([net(part) for part in x.split(EVAL_CHUNK)])
        loss = nn.functional.cross_entropy(logits, y)
        return loss.item(), (logits.argmax(1) == y).sum().item() / len(y)


class Images:
    """A data set that returns one image at a time, converted to a tensor and normalised each time."""

    def __init__(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """One image, float32 [1, 28, 28], and its label."""
        from PIL import Image

        picture = Image.fromarray(self.images[index][..., 0])  # as torchvision's MNIST does
        tensor = torch.from_numpy(np.array(picture, copy=True)).unsqueeze(0).to(torch.float32).div(255)
        return tensor.sub(0.5).div(0.5), int(self.labels[index])


def original_epochs(
    net: Any, tx: Any, training: Images, validation: Images, batch_size: int, num_epochs: int
) -> Iterator[float]:
    """Train and evaluate through DataLoaders, reading the loss back after every step; yields accuracies."""
    loss_of = nn.CrossEntropyLoss()
    loader = torch.utils.data.DataLoader
    batches = loader(training, batch_size=batch_size, shuffle=True)
    held_out = loader(validation, batch_size=batch_size, shuffle=False)
    for _ in range(num_epochs):
        net.train()
        total = 0.0
        for x, y in batches:
            tx.zero_grad()
            logits = net(x)
            loss = loss_of(logits, y)
            loss.backward()
            tx.step()
            total += loss.item()
        net.eval()
        hits = 0
        with torch.no_grad():
            for x, y in held_out:
                hits += (net(x).argmax(1) == y).sum().item()
        yield hits / len(validation)
