"""The networks besides the five: sizes, starting weights, errors, and training against PyTorch.

The reference is PyTorch in float64 (see ``test_oracle.py``). In float64, every step must agree to 1e-7 of how far each
tensor has come; in float32, as the networks are used, to what rounding and a few ReLUs may do.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from dlbench import models, ops
from dlbench.errors import InputError, UnknownNameError
from dlbench.execution import programs
from dlbench.models import counts, layers, mobilenet, resnet, wide_resnet
from dlbench.spec import registry
from dlbench.spec.registry import CRITERIA, MODELS
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.training.optimizers import make_optimizer

#: Parameters with 10 classes for 32x32x3 and 28x28x1; the first are those that papers and PyTorch versions report.
PARAMETERS = {
    "CIFAR-CNN": (2_122_186, 1_630_090),
    "LeNet-5": (62_006, 61_706),
    "MLP": (855_050, 269_322),
    "Linear": (30_730, 7_850),
    "VGG-11": (9_231_114, 9_229_962),
    "VGG-16": (14_728_266, 14_727_114),
    "ResNet-18": (11_173_962, 11_172_810),
    "ResNet-34": (21_282_122, 21_280_970),
    "ResNet-20": (269_722, 269_434),
    "ResNet-56": (853_018, 852_730),
    "WideResNet": (36_479_194, 36_478_906),
    "MobileNetV2": (2_296_922, 2_296_346),
    "ViT-Tiny": (5_362_762, 5_353_738),
}
#: A narrow network of each family, which a second is enough to train for a few steps.
NARROW: dict[str, dict[str, Any]] = {
    "CIFAR-CNN": {"width": 4},
    "LeNet-5": {},
    "MLP": {"hidden": 16},
    "Linear": {},
    "VGG-11": {"width": 4},
    "ResNet-18": {"width": 4},
    "CIFAR-ResNet": {"depth": 8, "width": 3},
    "WideResNet": {"depth": 10, "widen": 1},
    "MobileNetV2": {"width": 0.25},
    "ViT-Tiny": {"depth": 2, "width": 24},
}


#: One of each kind of block; the others are trained and started in the long suite.
KINDS = ("CIFAR-CNN", "MLP", "ResNet-18", "MobileNetV2", "ViT-Tiny")
QUICK = [name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in NARROW]


# Every kind of block once: eight or seventeen of them take long to compile.


class ShortResNet(resnet.ResNet):
    blocks = {18: (1, 1, 1, 1)}  # noqa: RUF012


class ShortMobileNet(mobilenet.MobileNetV2):
    stages = ((1, 16, 1, 1), (6, 24, 2, 2))


SHORT = {"ResNet-18": ShortResNet, "MobileNetV2": ShortMobileNet}
SHORT_IN_TORCH: dict[str, dict[str, Any]] = {
    "ResNet-18": {"blocks": (1, 1, 1, 1)},
    "MobileNetV2": {"stages": ((1, 16, (1,)), (6, 24, (2, 1)))},
}


def narrow(name: str, num_classes: int = 10) -> nn.Module:
    if name in SHORT:
        return SHORT[name](num_classes=num_classes, **NARROW[name])
    return models.create(name, num_classes=num_classes, **NARROW[name])


def narrow_torch(name: str, image: tuple[int, int, int], seed: int = 0) -> Any:
    return torch_networks.make_torch(name, image, seed, **NARROW[name], **SHORT_IN_TORCH.get(name, {}))


quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def shapes(model: nn.Module, image: tuple[int, int, int]) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image)))


def size(params: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


# Sizes


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_literature(name: str) -> None:
    """The shipped counts, which another test compares with the models."""
    for image, expected in zip(((32, 32, 3), (28, 28, 1)), PARAMETERS[name], strict=True):
        shipped = counts.at_hand(counts.Request(name, (), image, 10))
        assert shipped is not None
        assert shipped.parameters == expected


@pytest.mark.slow
def test_other_sizes_of_the_literature() -> None:
    imagenet = models.create("vit-tiny(patch=16)", num_classes=1000)
    assert size(shapes(imagenet, (224, 224, 3))["params"]) == 5_717_416  # timm's vit_tiny_patch16_224
    option_b = models.create("resnet-20(shortcut='B')")
    assert size(shapes(option_b, (32, 32, 3))["params"]) == 269_722 + (16 * 32 + 64) + (32 * 64 + 128)


@pytest.mark.parametrize("image", [(28, 28, 1), (16, 20, 2)], ids=str)
@pytest.mark.parametrize("name", NARROW)
def test_any_sensible_image_gives_one_logit_per_class(name: str, image: tuple[int, int, int]) -> None:
    model = narrow(name, num_classes=4)
    logits, _ = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=True),
        jax.ShapeDtypeStruct((5, *image), jnp.float32),
    )
    assert (logits.shape, logits.dtype) == ((5, 4), jnp.float32)


def check(model: nn.Module, name: str, side: int) -> None:
    images, labels = np.zeros((2, side, side, 3), np.uint8), np.zeros(2, np.int32)
    dataset = programs.DeviceData(images, images, labels, labels, 10)
    programs.check_model(model, dataset, Trial(spec=TrialSpec(model=name), data_digest=""))


@pytest.mark.parametrize(("name", "side", "least"), [("CIFAR-CNN", 3, 4), ("VGG-11", 15, 16)])
def test_images_that_are_too_small_are_refused(name: str, side: int, least: int) -> None:
    model = narrow(name)
    check(model, name, least)
    with pytest.raises(
        InputError, match=f"images of {side}x{side} are too small for model '{name}': at least {least}"
    ):
        check(model, name, side)


def test_images_that_no_patches_cover_are_refused() -> None:
    rule = r"model.patch must be a number that divides the sides of the images, 30x30; got 4"
    with pytest.raises(InputError, match=rule):
        check(models.create("vit-tiny", depth=1), "ViT-Tiny", 30)


def test_every_image_has_its_own_logits_whatever_the_batch() -> None:
    """In evaluation; a vision transformer mixes tokens, not images."""
    images = np.random.default_rng(0).standard_normal((3, 8, 8, 1)).astype(np.float32)
    model = models.create("vit-tiny", depth=1, width=12)

    @quick_jit
    def logits_of(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        variables = model.init(key, images)
        return model.apply(variables, images)[:1], model.apply(variables, images[:1])

    together, alone = logits_of(jax.random.key(0))
    np.testing.assert_allclose(together, alone, atol=1e-6)


# Names and arguments


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("resnet18", "ResNet-18"),
        ("resnet-18", "ResNet-18"),
        ("ResNet_56", "ResNet-56"),
        ("cifar-cnn", "CIFAR-CNN"),
        ("lenet", "LeNet-5"),
        ("logistic_regression", "Linear"),
        ("vgg16", "VGG-16"),
        ("wide-resnet", "WideResNet"),
        ("wrn", "WideResNet"),
        ("mobilenet-v2", "MobileNetV2"),
        ("mobilenet", "MobileNetV2"),
        ("vit", "ViT-Tiny"),
    ],
)
def test_names(name: str, canonical: str) -> None:
    assert registry.resolve_model(name) == canonical


@pytest.mark.parametrize(
    ("name", "meant"), [("resnet19", "ResNet-18"), ("mobilnet2", "MobileNetV2"), ("vgg", None)]
)
def test_near_misses(name: str, meant: str | None) -> None:
    if meant is None:
        assert registry.resolve_model(name) == "VGG"
        return
    with pytest.raises(UnknownNameError) as caught:
        registry.resolve_model(name)
    assert caught.value.nearest == meant


def test_none_of_them_is_compared_by_default() -> None:
    assert MODELS.compared == ("SimpleCNN", "Baseline", "Stabilized", "High-Vision", "Modernist")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar-cnn(width=0)", "model.width must be a whole number of at least 1; got 0"),
        ("mlp(hidden=0)", "model.hidden must be a whole number of at least 1; got 0"),
        ("mlp(depth=-1)", "model.depth must be a whole number of at least 0; got -1"),
        ("vgg(depth=12)", "model.depth must be 11, 13, 16 or 19; got 12"),
        ("resnet18(width=-8)", "model.width must be a whole number of at least 1; got -8"),
        ("resnet18(width=2.5)", "model.width must be a whole number of at least 1; got 2.5"),
        ("cifar-resnet(depth=18)", "model.depth must be 6n + 2 with n of at least 1, such as 20; got 18"),
        ("resnet20(shortcut='C')", "model.shortcut must be 'A' or 'B'; got 'C'"),
        ("wide-resnet(depth=20)", "model.depth must be 6n + 4 with n of at least 1, such as 16; got 20"),
        ("wide-resnet(widen=0)", "model.widen must be a whole number of at least 1; got 0"),
        ("wide-resnet(dropout_rate=1.0)", "model.dropout_rate must be in [0, 1); got 1.0"),
        ("mobilenetv2(width=0.0)", "model.width must be greater than 0; got 0.0"),
        ("vit-tiny(width=100)", "model.width must be a multiple of the number of heads, 3; got 100"),
        ("vit-tiny(heads=0)", "model.heads must be a whole number of at least 1; got 0"),
    ],
)
def test_wrong_arguments(name: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        models.create(name)


# Layers


def test_a_shortcut_without_parameters_takes_every_second_pixel_between_zeros() -> None:
    """Both convolutions give zero, so that what is left is the shortcut."""
    x = np.random.default_rng(0).uniform(1, 2, (2, 5, 6, 3)).astype(np.float32)
    block = resnet.BasicBlock(6, 2, "A", nn.initializers.zeros)
    y, _ = quick_jit(lambda x: block.init_with_output(jax.random.key(0), x, False))(x)
    expected = np.zeros((2, 3, 3, 6), np.float32)
    expected[..., 1:4] = x[:, ::2, ::2]
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_dropout_of_a_wide_network_follows_its_key_in_training_alone() -> None:
    x = np.random.default_rng(0).standard_normal((4, 4, 4, 16)).astype(np.float32)
    block = wide_resnet.PreActivationBlock(16, 1, 0.5)
    variables = quick_jit(lambda x: block.init(jax.random.key(0), x, False))(x)

    @quick_jit
    def apply(seed: jax.Array) -> jax.Array:
        rngs = {"dropout": jax.random.key(seed)}
        return block.apply(variables, x, True, rngs=rngs, mutable=["batch_stats"])[0]

    assert np.array_equal(apply(1), apply(1))
    assert not np.array_equal(apply(1), apply(2))
    quick_jit(lambda x: block.apply(variables, x, False))(x)  # needs no key


def test_padding_is_the_same_on_every_side() -> None:
    """As PyTorch has it; "SAME" would pad an even image with stride 2 on the right alone."""
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 2, 2] = 1
    conv = layers.Conv(1, strides=2, kernel_init=nn.initializers.ones)
    for lowering in ("lax", "cpu"):
        with ops.lowered(lowering):
            y, _ = jax.jit(lambda x: conv.init_with_output(jax.random.key(0), x))(x)
        np.testing.assert_array_equal(y[0, :, :, 0], [[0, 0], [0, 1]])


def test_no_pixels_have_no_average() -> None:
    with pytest.raises(ValueError, match="no pixels are left to average: 0x2"):
        layers.global_average(jnp.zeros((1, 0, 2, 3)))


# Against PyTorch

torch = pytest.importorskip("torch", reason="PyTorch is the reference here: install dlbench[oracle]")

from dlbench.bench import torch_networks  # noqa: E402

SIDE, BATCH, STEPS = 16, 8, 3
LEARNING_RATE = {"sgd": 0.001, "adam": 0.001}
#: How far a tensor counts as having come at least, root mean square. A bias before a batch norm does not move: its
#: gradient is rounding, of which Adam makes more.
FLOORS = {"sgd": 1e-5, "adam": 1e-3}


@pytest.fixture(scope="module", autouse=True)
def _one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", PARAMETERS)
def test_pytorch_counts_the_same_parameters(name: str) -> None:
    with torch.device("meta"):
        for image, expected in zip(((32, 32, 3), (28, 28, 1)), PARAMETERS[name], strict=True):
            net = torch_networks.make_torch(name, image)
            assert sum(parameter.numel() for parameter in net.parameters()) == expected


DRAWS = 6


@pytest.mark.parametrize("name", QUICK)
def test_weights_start_as_pytorchs_do(name: str) -> None:
    """Each tensor has the spread and the kind of distribution of its counterpart; what is constant is equal."""
    image = (SIDE, SIDE, 3)
    model = narrow(name)
    with ops.lowered("lax"):
        keys = jax.random.split(jax.random.key(0, impl="rbg"), DRAWS)  # compiles faster than the default
        ours = quick_jit(jax.vmap(lambda key: model.init(key, jnp.zeros((1, *image)))))(keys)
    nets = [narrow_torch(name, image, seed) for seed in range(DRAWS)]
    for index, collection in enumerate(("params", "batch_stats")):
        theirs = jax.tree.map(
            lambda *draws: np.stack(draws), *(torch_networks.to_flax(net)[index] for net in nets)
        )
        found = ours.get(collection, {})
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(theirs), strict=True
        ):
            alike(jax.tree_util.keystr(path), np.asarray(a), b)


def alike(where: str, a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape, where
    if b.std() == 0:
        np.testing.assert_array_equal(a, b, err_msg=where)
        return
    assert (a[0] != a[1]).mean() > 0.99, f"{where} is the same for every key"
    assert abs(a.mean()) < 6 * b.std() / b.size**0.5, where
    assert abs(a.std() / b.std() - 1) < 6 / b.size**0.5, (
        where
    )  # of a normal distribution; uniform ones vary less
    if (
        b.size > 200
    ):  # the largest of a uniform distribution is 1.7 standard deviations, of a normal one over 2.3
        assert (np.abs(a).max() / a.std() > 2) == (np.abs(b).max() / b.std() > 2), where


def train_torch(net: Any, optimizer: str, images: np.ndarray, labels: np.ndarray) -> tuple[list, list]:
    """A few steps; losses, and parameters and running statistics after each."""
    net.double().train()
    make = {"sgd": functools.partial(torch.optim.SGD, momentum=0.9), "adam": torch.optim.Adam}[optimizer]
    tx = make(net.parameters(), lr=LEARNING_RATE[optimizer])
    losses, history = [], []
    for batch, target in zip(images, labels, strict=True):
        logits = net(torch.tensor(batch, dtype=torch.float64).permute(0, 3, 1, 2))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target, dtype=torch.int64))
        tx.zero_grad()
        loss.backward()
        tx.step()
        losses.append(loss.item())
        history.append(torch_networks.to_flax(net))
    return losses, history


def transformations() -> list:
    return [make_optimizer(name, rate, 0.0) for name, rate in LEARNING_RATE.items()]


@functools.partial(quick_jit, static_argnames="model")
def step(model: nn.Module, which: Any, carry: Any, images: Any, labels: Any) -> Any:
    """One step by either optimizer, so that there is one program to compile for both."""
    params, stats, states = carry

    def loss_of(params: Any) -> Any:
        variables = {"params": params, "batch_stats": stats}
        logits, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return CRITERIA.load("cross_entropy")(logits, labels).mean(), updated.get("batch_stats", {})

    (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    flat, _ = ravel_pytree(params)
    gradient, unravel = ravel_pytree(grads)
    each = [tx.update(gradient, state, flat) for tx, state in zip(transformations(), states, strict=True)]
    updates = unravel(jax.lax.select_n(which, *(update for update, _ in each)))
    return loss, (jax.tree.map(jnp.add, params, updates), stats, [state for _, state in each])


def train_dlbench(model: nn.Module, optimizer: str, start: Any, images: Any, labels: Any, dtype: Any) -> Any:
    """The same steps; in float64 by plain lax, which compiles faster, and in float32 by what is used by default."""
    with (
        jax.enable_x64(dtype is np.float64),
        ops.lowered("lax") if dtype is np.float64 else contextlib.nullcontext(),
    ):
        params, stats = jax.tree.map(lambda array: array.astype(dtype), start)
        flat = np.zeros(size(params), dtype)
        carry: Any = params, stats, [tx.init(flat) for tx in transformations()]
        which = np.int32([*LEARNING_RATE].index(optimizer))
        losses, history = [], []
        for batch, target in zip(images, labels, strict=True):
            loss, carry = step(model, which, carry, batch.astype(dtype), target)
            losses.append(float(loss))
            history.append(jax.device_get(carry[:2]))
        return losses, history


def difference(ours: Any, theirs: Any, start: Any, floors: tuple[float, float]) -> dict[str, float]:
    """The largest difference after any step, of each tensor, by how far it has come, at least the floor of its kind."""
    found: dict[str, float] = {}
    for mine, reference in zip(ours, theirs, strict=True):
        for (path, first), a, b in zip(
            jax.tree_util.tree_leaves_with_path(start),
            jax.tree.leaves(mine),
            jax.tree.leaves(reference),
            strict=True,
        ):
            moved = max(np.linalg.norm(b - first), floors[path[0].idx] * first.size**0.5)
            where = jax.tree_util.keystr(path)
            found[where] = max(found.get(where, 0.0), float(np.linalg.norm(a - b) / moved))
    return found


def batches(image: tuple[int, int, int], steps: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (steps, size, *image)).astype(np.float32)
    return images, generator.integers(0, 10, (steps, size)).astype(np.int32)


def compare(model: nn.Module, net: Any, optimizer: str, dtype: Any, data: Any) -> tuple[float, float]:
    """The largest differences in losses and in tensors."""
    start = torch_networks.to_flax(net)
    losses, ours = train_dlbench(model, optimizer, start, *data, dtype)
    expected, theirs = train_torch(net, optimizer, *data)
    tensors = difference(ours, theirs, start, (FLOORS[optimizer], 1e-2))
    return max(np.abs(np.subtract(losses, expected))), max(tensors.values())


def side_of(name: str) -> int:
    """The fewest pixels that leave statistics to batch norm; few pixels are quick."""
    return 16 if name in ("VGG-11", "LeNet-5", "MobileNetV2") else 8


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", QUICK)
def test_steps_agree_with_pytorch(name: str, optimizer: str) -> None:
    image = (side_of(name), side_of(name), 3)
    data = batches(image, STEPS, BATCH)
    loss, tensor = compare(narrow(name), narrow_torch(name, image), optimizer, np.float64, data)
    assert loss < 1e-11
    assert tensor < 1e-6


#: One that C code computes in float32; the others are slow to compile.
FUSED = ("CIFAR-CNN",)


@pytest.mark.parametrize(
    "name", [name if name in FUSED else pytest.param(name, marks=pytest.mark.slow) for name in NARROW]
)
def test_steps_in_float32_agree_with_pytorch_to_rounding(name: str) -> None:
    image = (SIDE, SIDE, 3)
    data = batches(image, STEPS, BATCH)
    loss, tensor = compare(narrow(name), narrow_torch(name, image), "sgd", np.float32, data)
    assert loss < 5e-6
    assert tensor < 2e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_step_of_a_whole_network_agrees_with_pytorch(name: str) -> None:
    """With the default arguments, on two images as large as CIFAR's."""
    image = (32, 32, 3)
    net = torch_networks.make_torch(name, image)
    loss, tensor = compare(models.create(name), net, "sgd", np.float64, batches(image, 1, 2))
    assert loss < 1e-9
    assert tensor < 1e-5
