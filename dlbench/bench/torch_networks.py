"""The networks of :mod:`dlbench.models` besides the five in PyTorch, for comparisons in tests and benchmarks.

Layers have the names that they have in Flax, so that :func:`to_flax` can copy weights by name, and images are flattened
with their channels last, as they are there. Initial weights are those of the PyTorch implementation that the docstring
of each network in :mod:`dlbench.models` names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

#: Kernels of ``Conv2d`` and of ``Linear``, in the layout of Flax.
_AXES = {4: (2, 3, 1, 0), 2: (1, 0)}


def _named(module: Any, kind: str, layers: Iterable[Any]) -> list[Any]:
    """Add layers to a module under the names that Flax gives to layers of a class, and return them."""
    added = list(layers)
    for number, layer in enumerate(added):
        module.add_module(f"{kind}_{number}", layer)
    return added


class _ConvBlock(nn.Conv2d):  # type: ignore[misc]
    """Convolution, (batch norm), ReLU, (2x2 max pooling)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        padding: int = 1,
        norm: bool = False,
        pool: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=padding)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.pool = pool

    def forward(self, x: Any) -> Any:
        y = functional.relu(self.norm(super().forward(x)))
        return functional.max_pool2d(y, 2) if self.pool and min(y.shape[2:]) > 1 else y


class _Blocks(nn.Module):  # type: ignore[misc]
    """Blocks of convolution and pooling, then dense layers with ReLU between them."""

    def __init__(
        self, blocks: Sequence[Any], dense: Sequence[int], average: bool = False, side: int = 0
    ) -> None:
        super().__init__()
        self.blocks = _named(self, "ConvBlock", blocks)
        self.dense = _named(self, "Dense", (nn.Linear(*pair) for pair in itertools.pairwise(dense)))
        self.average, self.side = average, side

    def forward(self, x: Any) -> Any:
        missing = max(0, self.side - x.shape[2])
        x = functional.pad(x, (missing // 2, missing - missing // 2) * 2)
        for block in self.blocks:
            x = block(x)
        x = x.mean((2, 3)) if self.average else x.permute(0, 2, 3, 1).flatten(1)
        for layer in self.dense[:-1]:
            x = functional.relu(layer(x))
        return self.dense[-1](x)


def cifar_cnn(side: int = 32, channels: int = 3, width: int = 32) -> Any:
    """CIFAR-CNN."""
    blocks = [_ConvBlock(channels, width), _ConvBlock(width, 2 * width)]
    return _Blocks(blocks, (2 * width * (side // 4) ** 2, 16 * width, 10))


def lenet5(side: int = 32, channels: int = 3) -> Any:
    """LeNet-5."""
    left = ((max(side, 32) - 4) // 2 - 4) // 2
    blocks = [_ConvBlock(channels, 6, 5, padding=0), _ConvBlock(6, 16, 5, padding=0)]
    return _Blocks(blocks, (16 * left**2, 120, 84, 10), side=32)


def mlp(side: int = 32, channels: int = 3, hidden: int = 256, depth: int = 2) -> Any:
    """MLP, and with a depth of 0 Linear."""
    return _Blocks([], (side**2 * channels, *(hidden,) * depth, 10))


def vgg(side: int = 32, channels: int = 3, depth: int = 16, width: int = 64) -> Any:
    """VGG-11 and VGG-16."""
    plans = {11: "1 M 2 M 4 4 M 8 8 M 8 8 M", 16: "1 1 M 2 2 M 4 4 4 M 8 8 8 M 8 8 8 M"}
    plan = plans[depth].split()
    blocks = []
    for layer, following in zip(plan, [*plan[1:], ""], strict=True):
        if layer != "M":
            outputs = int(layer) * width
            blocks.append(_ConvBlock(channels, outputs, norm=True, pool=following == "M"))
            channels = outputs
    return _Blocks(blocks, (channels, 10), average=True)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Any:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class _BasicBlock(nn.Module):  # type: ignore[misc]
    """Two convolutions and a shortcut, option A or B."""

    def __init__(self, inputs: int, outputs: int, stride: int, option: str) -> None:
        super().__init__()
        changes = stride != 1 or inputs != outputs
        self.pads = option == "A" and changes
        self.stride, self.missing = stride, outputs - inputs
        convs = [_conv(inputs, outputs, 3, stride), _conv(outputs, outputs)]
        if changes and option == "B":
            convs.append(_conv(inputs, outputs, 1, stride))
        self.convs = _named(self, "Conv", convs)
        self.norms = _named(self, "BatchNorm", (nn.BatchNorm2d(outputs) for _ in convs))

    def forward(self, x: Any) -> Any:
        y = functional.relu(self.norms[0](self.convs[0](x)))
        y = self.norms[1](self.convs[1](y))
        if self.pads:
            half = self.missing // 2
            x = functional.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.missing - half)
            )
        elif len(self.convs) > 2:
            x = self.norms[2](self.convs[2](x))
        return functional.relu(y + x)


class _ResNet(nn.Module):  # type: ignore[misc]
    """A convolution, stages of basic blocks, average pooling, a dense layer."""

    def __init__(self, channels: int, blocks: Sequence[int], width: int, option: str) -> None:
        super().__init__()
        self.Conv_0, self.BatchNorm_0 = _conv(channels, width), nn.BatchNorm2d(width)
        made, inputs = [], width
        for stage, count in enumerate(blocks):
            for number in range(count):
                outputs = width * 2**stage
                made.append(_BasicBlock(inputs, outputs, 2 if stage and number == 0 else 1, option))
                inputs = outputs
        self.blocks = _named(self, "BasicBlock", made)
        self.Dense_0 = nn.Linear(inputs, 10)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.BatchNorm_0(self.Conv_0(x)))
        for block in self.blocks:
            x = block(x)
        return self.Dense_0(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def resnet(side: int = 32, channels: int = 3, width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2)) -> Any:
    """ResNet-18 and ResNet-34, which start as torchvision's."""
    net = _ResNet(channels, blocks, width, "B")
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def cifar_resnet(
    side: int = 32, channels: int = 3, depth: int = 20, width: int = 16, shortcut: str = "A"
) -> Any:
    """ResNet-20 and ResNet-56."""
    net = _ResNet(channels, (depth // 6,) * 3, width, shortcut)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return net


class _PreActivationBlock(nn.Module):  # type: ignore[misc]
    """Batch norm and ReLU before each of two convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        convs = [_conv(inputs, outputs, 3, stride), _conv(outputs, outputs)]
        if inputs != outputs:
            convs.append(_conv(inputs, outputs, 1, stride))
        self.convs = _named(self, "Conv", convs)
        self.norms = _named(self, "BatchNorm", (nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)))

    def forward(self, x: Any) -> Any:
        activated = functional.relu(self.norms[0](x))
        y = self.convs[1](functional.relu(self.norms[1](self.convs[0](activated))))
        return y + (self.convs[2](activated) if len(self.convs) > 2 else x)


class _WideResNet(nn.Module):  # type: ignore[misc]
    """A convolution, three stages of pre-activation blocks, batch norm, average pooling, a dense layer."""

    def __init__(self, channels: int, depth: int, widen: int) -> None:
        super().__init__()
        self.Conv_0 = _conv(channels, 16)
        made, inputs = [], 16
        for outputs, stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
            for number in range((depth - 4) // 6):
                made.append(_PreActivationBlock(inputs, outputs, 1 if number else stride))
                inputs = outputs
        self.blocks = _named(self, "PreActivationBlock", made)
        self.BatchNorm_0, self.Dense_0 = nn.BatchNorm2d(inputs), nn.Linear(inputs, 10)

    def forward(self, x: Any) -> Any:
        x = self.Conv_0(x)
        for block in self.blocks:
            x = block(x)
        x = functional.relu(self.BatchNorm_0(x))
        return self.Dense_0(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def wide_resnet(side: int = 32, channels: int = 3, depth: int = 28, widen: int = 10) -> Any:
    """WideResNet, without dropout."""
    net = _WideResNet(channels, depth, widen)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    nn.init.zeros_(net.Dense_0.bias)
    return net


class _InvertedResidual(nn.Module):  # type: ignore[misc]
    """1x1, 3x3 depthwise and 1x1 convolution; a shortcut where the stride is 1."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = expansion * inputs
        convs = [_conv(inputs, wide, 1), _conv(wide, wide, 3, stride, wide), _conv(wide, outputs, 1)]
        self.shortcut = stride == 1
        if self.shortcut and inputs != outputs:
            convs.append(_conv(inputs, outputs, 1))
        self.convs = _named(self, "Conv", convs)
        self.norms = _named(self, "BatchNorm", (nn.BatchNorm2d(conv.out_channels) for conv in convs))

    def forward(self, x: Any) -> Any:
        y = functional.relu(self.norms[0](self.convs[0](x)))
        y = functional.relu(self.norms[1](self.convs[1](y)))
        y = self.norms[2](self.convs[2](y))
        if not self.shortcut:
            return y
        return y + (self.norms[3](self.convs[3](x)) if len(self.convs) > 3 else x)


class _MobileNetV2(nn.Module):  # type: ignore[misc]
    """A convolution, seven stages of inverted residual blocks, a 1x1 convolution, pooling, a dense layer."""

    def __init__(self, channels: int, width: float, stages: Sequence[tuple[int, int, Sequence[int]]]) -> None:
        super().__init__()

        def scaled(count: int) -> int:
            rounded = max(8, int(count * width + 4) // 8 * 8)
            return rounded + 8 if rounded < 0.9 * count * width else rounded

        inputs, last = scaled(32), scaled(1280) if width > 1 else 1280
        self.Conv_0, self.BatchNorm_0 = _conv(channels, inputs), nn.BatchNorm2d(inputs)
        made = []
        for expansion, outputs, strides in stages:
            for stride in strides:
                made.append(_InvertedResidual(inputs, scaled(outputs), expansion, stride))
                inputs = scaled(outputs)
        self.blocks = _named(self, "InvertedResidual", made)
        self.Conv_1, self.BatchNorm_1 = _conv(inputs, last, 1), nn.BatchNorm2d(last)
        self.Dense_0 = nn.Linear(last, 10)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.BatchNorm_0(self.Conv_0(x)))
        for block in self.blocks:
            x = block(x)
        x = functional.relu(self.BatchNorm_1(self.Conv_1(x)))
        return self.Dense_0(functional.adaptive_avg_pool2d(x, 1).flatten(1))


#: Expansion, output channels and strides of the blocks of each stage.
MOBILENET_STAGES = (
    (1, 16, (1,)),
    (6, 24, (1, 1)),
    (6, 32, (2, 1, 1)),
    (6, 64, (2, 1, 1, 1)),
    (6, 96, (1, 1, 1)),
    (6, 160, (2, 1, 1)),
    (6, 320, (1,)),
)


def mobilenet_v2(
    side: int = 32,
    channels: int = 3,
    width: float = 1.0,
    stages: Sequence[tuple[int, int, Sequence[int]]] = MOBILENET_STAGES,
) -> Any:
    """MobileNetV2."""
    return _MobileNetV2(channels, width, stages)


class _EncoderBlock(nn.Module):  # type: ignore[misc]
    """Self-attention and a perceptron, each after layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        sizes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
        self.dense = _named(self, "Dense", (nn.Linear(*size) for size in sizes))
        self.norms = _named(self, "LayerNorm", (nn.LayerNorm(width, eps=1e-6) for _ in range(2)))

    def forward(self, x: Any) -> Any:
        joint = self.dense[0](self.norms[0](x))
        query, key, value = joint.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.dense[1](attended.transpose(1, 2).flatten(2))
        return x + self.dense[3](functional.gelu(self.dense[2](self.norms[1](x))))


class _VisionTransformer(nn.Module):  # type: ignore[misc]
    """Patches, class token, positions, blocks, layer norm, a dense layer."""

    def __init__(self, side: int, channels: int, depth: int, width: int, heads: int, patch: int) -> None:
        super().__init__()
        self.Conv_0 = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty((side // patch) ** 2 + 1, width))
        self.blocks = _named(self, "EncoderBlock", (_EncoderBlock(width, heads) for _ in range(depth)))
        self.LayerNorm_0, self.Dense_0 = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        patches = self.Conv_0(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.Dense_0(self.LayerNorm_0(x)[:, 0])


def vit(
    side: int = 32,
    channels: int = 3,
    depth: int = 12,
    width: int = 192,
    heads: int = 3,
    patch: int = 4,
) -> Any:
    """ViT-Tiny, which starts as timm's."""
    net = _VisionTransformer(side, channels, depth, width, heads, patch)
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    nn.init.trunc_normal_(net.positions, std=0.02)
    nn.init.normal_(net.token, std=1e-6)
    return net


#: How to make the counterpart of a model, by name, with the fixed arguments of some.
NETWORKS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "CIFAR-CNN": (cifar_cnn, {}),
    "LeNet-5": (lenet5, {}),
    "MLP": (mlp, {}),
    "Linear": (mlp, {"depth": 0}),
    "VGG": (vgg, {}),
    "VGG-11": (vgg, {"depth": 11}),
    "VGG-16": (vgg, {"depth": 16}),
    "ResNet-18": (resnet, {}),
    "ResNet-34": (resnet, {"blocks": (3, 4, 6, 3)}),
    "CIFAR-ResNet": (cifar_resnet, {}),
    "ResNet-20": (cifar_resnet, {"depth": 20}),
    "ResNet-56": (cifar_resnet, {"depth": 56}),
    "WideResNet": (wide_resnet, {}),
    "MobileNetV2": (mobilenet_v2, {}),
    "ViT-Tiny": (vit, {}),
}


def make_torch(name: str, image: Sequence[int] = (32, 32, 3), seed: int = 0, **arguments: Any) -> Any:
    """Create the counterpart of a model, with initial parameters drawn from the seed.

    Args:
        name: the model's canonical name.
        image: height, width (the same) and channels.
        seed: of PyTorch's generator.
        arguments: those of the model.
    """
    torch.manual_seed(seed)
    make, fixed = NETWORKS[name]
    return make(image[0], image[2], **fixed, **arguments)


def to_flax(net: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and running statistics of a network, copied, in Flax's names and layout."""
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    norms = {path for path, layer in net.named_modules() if isinstance(layer, nn.BatchNorm2d | nn.LayerNorm)}
    for path, value in net.state_dict().items():
        layer, _, name = path.rpartition(".")
        array = value.detach().numpy().copy()
        if name == "num_batches_tracked":
            continue
        if name.startswith("running_"):
            _put(stats, layer, name.removeprefix("running_"), array)
        elif name == "weight" and layer not in norms:
            _put(params, layer, "kernel", np.ascontiguousarray(array.transpose(_AXES[array.ndim])))
        else:
            _put(params, layer, "scale" if name == "weight" else name, array)
    return params, stats


def _put(tree: dict[str, Any], layer: str, name: str, array: np.ndarray[Any, Any]) -> None:
    for part in filter(None, layer.split(".")):
        tree = tree.setdefault(part, {})
    tree[name] = array
