"""The five networks and their training against PyTorch: same weights, same batches of real digits.

The reference is PyTorch in float64. dlbench is held to it twice:

* in float64, where rounding (1e-16) decides nothing, so that every step of every run must agree to 1e-7 of
  how far each tensor has come by then (1e-13 is usual): the two do the same calculation;
* in float32, as it is used. There the start of every network agrees to rounding, and so do most runs to
  their end; but now and then a number that is zero but for rounding falls on the other side of a ReLU or of
  a maximum, Adam makes a full-size update of a vanishing gradient, and the two part. Hence two bounds: a
  tight one for the median run, a loose one for every run.

PyTorch's own float32 would be the worse reference: its batch norm is 1,000 times further from the float64
gradients than dlbench's (4e-4 against 2e-7 in the first step here).
"""

import functools
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from dlbench import data as datasets
from dlbench import models
from dlbench.training import evaluation, loop
from dlbench.training.optimizers import make_optimizer
from dlbench.training.state import Data, Hyper, Static, TrainState

torch = pytest.importorskip("torch", reason="PyTorch is the reference here: install dlbench[oracle]")

from dlbench.bench import torch_reference  # noqa: E402
from dlbench.bench.torch_reference import NAMES  # noqa: E402

BATCH = 8
STEPS = 20
COUNT = (STEPS - 1) * BATCH + 5  # the last batch is short
OPTIMIZERS = ("sgd", "adam")
DECAYS = ("none", "decoupled", "l2")
MODES = [(optimizer, decay) for optimizer in OPTIMIZERS for decay in ("decoupled", "l2")]
LEARNING_RATE = {"sgd": 0.01, "adam": 0.001}
WEIGHT_DECAY = 0.5  # large: a decay of 1e-4 would be lost in the tolerances


def make_torch(name, dropout=0.0):
    return torch_reference.make_torch(name, **({"dropout": dropout} if name == "Stabilized" else {}))


def to_flax(net):
    """The parameters and running statistics of a PyTorch network, copied, in Flax's names and layout."""
    params, stats = {}, {}
    array = {key: value.detach().numpy().copy() for key, value in net.state_dict().items()}
    channels = array["conv1.weight"].shape[0]
    for i in range(2):
        block = {"kernel": array[f"conv{i}.weight"].transpose(2, 3, 1, 0), "bias": array[f"conv{i}.bias"]}
        if f"norm{i}.weight" in array:
            block["norm"] = {"scale": array[f"norm{i}.weight"], "bias": array[f"norm{i}.bias"]}
            stats[f"ConvBlock_{i}"] = {
                "norm": {"mean": array[f"norm{i}.running_mean"], "var": array[f"norm{i}.running_var"]}
            }
        params[f"ConvBlock_{i}"] = block
    side = round((array["dense0.weight"].shape[1] / channels) ** 0.5)
    first = array["dense0.weight"].reshape(-1, channels, side, side).transpose(2, 3, 1, 0)  # CHW → HWC
    params["Dense_0"] = {"kernel": first.reshape(-1, first.shape[-1]), "bias": array["dense0.bias"]}
    params["Dense_1"] = {"kernel": array["dense1.weight"].T, "bias": array["dense1.bias"]}
    return params, stats


def torch_images(images):
    return torch.tensor((images.astype(np.float64) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)


class Run(NamedTuple):
    losses: Any  # [STEPS]
    loss: Any
    accuracy: Any
    params: Any  # [STEPS, ...] each
    batch_stats: Any


def torch_optimizer(net, optimizer, decay):
    lr, l2 = LEARNING_RATE[optimizer], WEIGHT_DECAY if decay == "l2" else 0.0
    if optimizer == "sgd":
        return torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=l2)
    if decay == "decoupled":
        return torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    return torch.optim.Adam(net.parameters(), lr=lr, weight_decay=l2)


def train_torch(net, optimizer, decay, images, labels, order):
    """One epoch as a PyTorch loop makes it."""
    net.double().train()
    tx = torch_optimizer(net, optimizer, decay)
    losses, hits, history = [], 0, []
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        target = torch.tensor(labels[places], dtype=torch.int64)
        logits = net(torch_images(images[places]))
        loss = torch.nn.functional.cross_entropy(logits, target)
        tx.zero_grad()
        loss.backward()
        if optimizer == "sgd" and decay == "decoupled":  # which torch.optim.SGD has not
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.mul_(1 - LEARNING_RATE["sgd"] * WEIGHT_DECAY)
        tx.step()
        losses.append(loss.item())
        hits += (logits.argmax(1) == target).sum().item()
        history.append(to_flax(net)[0])
    params = jax.tree.map(lambda *steps: np.stack(steps), *history)
    return Run(np.array(losses), np.mean(losses), hits / len(order), params, to_flax(net)[1])


# dlbench


class Recorded(NamedTuple):
    """An optimizer state that remembers every step; training carries it along unopened."""

    opt_state: Any
    losses: Any  # [STEPS]
    params: Any  # [STEPS, ...] each


def recording(step):
    """``loop.train_step``, its losses and parameters kept in the optimizer state."""

    def recording_step(static, carry, images, labels, keys, index, hyper, past, class_weights):
        params, stats, recorded, _ = carry
        carry = loop.Carry(params, stats, recorded.opt_state)
        carry, (loss, hits) = step(static, carry, images, labels, keys, index, hyper, past, class_weights)
        params, stats, opt_state, _ = carry
        history = jax.tree.map(lambda all_, new: all_.at[index].set(new), recorded.params, params)
        recorded = Recorded(opt_state, recorded.losses.at[index].set(loss), history)
        return loop.Carry(params, stats, recorded), (loss, hits)

    return recording_step


def any_optimizer(mode, hyper):
    """All four of dlbench's optimizers; the one of number ``mode`` moves the parameters.

    So that there is one program to compile for each network instead of four.
    """
    each = [make_optimizer(optimizer, *hyper[:2], decay_mode) for optimizer, decay_mode in MODES]

    def init(params):
        flat, _ = ravel_pytree(params)
        return tuple(tx.init(flat) for tx in each)

    def update(grads, states, params):
        flat_params, _ = ravel_pytree(params)
        flat_grads, unravel = ravel_pytree(grads)
        outcomes = [tx.update(flat_grads, state, flat_params) for tx, state in zip(each, states, strict=True)]
        updates = jax.lax.select_n(mode, *(updates for updates, _ in outcomes))
        return unravel(updates), tuple(state for _, state in outcomes)

    return optax.GradientTransformation(init, update)


def normalise_in_double(static, images):
    return (images.astype(jnp.float64) / 255 - 0.5) / 0.5


def train_dlbench(static, mode, params, stats, data, keys, hyper):
    """One epoch as ``loop.train_epoch`` makes it, in the precision of the parameters."""
    tx = any_optimizer(mode, hyper)
    history = jax.tree.map(lambda a: jnp.zeros((STEPS, *a.shape), a.dtype), params)
    recorded = Recorded(tx.init(params), jnp.zeros(STEPS), history)
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(params, stats, recorded, zero, params, stats, zero, zero)
    double = jax.tree.leaves(params)[0].dtype == jnp.float64
    with (
        mock.patch.object(loop, "train_step", recording(loop.train_step)),
        mock.patch.object(loop, "make_optimizer", return_value=tx),
        mock.patch.object(loop, "network_input", normalise_in_double if double else evaluation.network_input),
    ):
        state, loss, accuracy = loop.train_epoch(static, state, data, keys, hyper)
    return Run(state.opt_state.losses, loss, accuracy, state.opt_state.params, state.batch_stats)


#: Half the time to compile, for what runs little: what is compared in float64, except SimpleCNN; predictions.
UNOPTIMISED = {"xla_backend_optimization_level": 0}
train_single = jax.jit(train_dlbench, static_argnames="static")
train_double = jax.jit(train_dlbench, static_argnames="static", compiler_options=UNOPTIMISED)


def make_static(name, **arguments):
    return Static(models.create(name, **arguments), BATCH)


def without_dropout(name):
    return make_static(name, **({"dropout_rate": 0.0} if name == "Stabilized" else {}))


def cast(tree, dtype):
    return jax.tree.map(lambda a: np.asarray(a, dtype), tree)


# Comparison


class Difference(NamedTuple):
    """Largest differences between dlbench and PyTorch over the steps."""

    losses: Any  # [STEPS + 1], absolute; the epoch's mean loss comes last
    params: Any  # {path: [STEPS]}, relative to how far that tensor has come
    accuracy: float
    mean: float  # running mean, in standard deviations
    var: float  # running variance, relative


@functools.cache
def digits():
    dataset = datasets.load("mnist5k")
    chosen = np.random.default_rng(0).choice(len(dataset.train_labels), COUNT, replace=False)
    return dataset.train_images[chosen], dataset.train_labels[chosen].astype(np.int32)


@functools.cache
def differences(name, optimizer, decay, ties=False):
    """Train with both; {dtype: Difference}."""
    images, labels = digits()
    net = make_torch(name)
    if ties:
        images = np.where(images > 127, 255, 0).astype(np.uint8)
        with torch.no_grad():
            for weight in (net.conv0.weight, net.conv1.weight):
                unit = 2 ** (weight.abs().max() / 2).log2().round()
                weight.copy_((weight / unit).round() * unit)
    params, stats = to_flax(net)
    keys = loop.purpose_keys(jax.random.key(7))
    order = np.asarray(loop.permutation(jax.random.fold_in(keys.order, 1), COUNT))
    theirs = train_torch(net, optimizer, decay, images, labels, order)
    data = Data(images, labels, images[:1], labels[:1])
    mode = np.int32(MODES.index((optimizer, "l2" if decay == "l2" else "decoupled")))
    found = {}
    for dtype in (np.float64,) if ties else (np.float32, np.float64):
        train_ours = train_double if dtype is np.float64 and name != "SimpleCNN" else train_single
        hyper = Hyper(dtype(LEARNING_RATE[optimizer]), dtype(0 if decay == "none" else WEIGHT_DECAY))
        with jax.enable_x64(dtype is np.float64):
            ours = train_ours(
                without_dropout(name), mode, cast(params, dtype), cast(stats, dtype), data, keys, hyper
            )
            found[dtype] = difference(params, jax.device_get(ours), theirs)
    return found


def difference(start, ours, theirs):
    by_tensor = {}
    for (path, first), a, b in zip(
        jax.tree_util.tree_leaves_with_path(start),
        jax.tree.leaves(ours.params),
        jax.tree.leaves(theirs.params),
        strict=True,
    ):
        where = jax.tree_util.keystr(path)
        # Less than a float32's rounding is no distance. A bias before a batch norm is subtracted again: its
        # gradient is rounding, which Adam blows up to full-size steps, so it counts against its own size.
        cancelled = theirs.batch_stats and where in ("['ConvBlock_0']['bias']", "['ConvBlock_1']['bias']")
        floor = 1.0 if cancelled else 1e-6
        by_tensor[where] = distances(a - b) / np.maximum(distances(b - first), floor * np.linalg.norm(first))
    mean = var = 0.0
    for block, stats in theirs.batch_stats.items():
        a, b = ours.batch_stats[block]["norm"], stats["norm"]
        mean = max(mean, (np.abs(a["mean"] - b["mean"]) / np.sqrt(b["var"])).max())
        var = max(var, np.abs(a["var"] / b["var"] - 1).max())
    losses = np.abs(np.append(ours.losses, ours.loss) - np.append(theirs.losses, theirs.loss))
    return Difference(losses, by_tensor, abs(ours.accuracy - theirs.accuracy), mean, var)


def distances(steps):
    """[STEPS, ...] → [STEPS]."""
    return np.sqrt(np.square(steps).sum(tuple(range(1, steps.ndim))))


@pytest.fixture(scope="module", autouse=True)
def _one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Tests

#: One with batch norm, one with another activation; the others are trained in the long suite.
QUICK = ("Stabilized", "Modernist")
TRAINED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", TRAINED)
def test_20_steps_agree_with_pytorch(name, optimizer, decay):
    single, double = (differences(name, optimizer, decay)[dtype] for dtype in (np.float32, np.float64))
    assert double.losses.max() < 1e-10
    for where, error in double.params.items():
        assert error.max() < 1e-7, f"{where} parts at step {1 + (error > 1e-7).argmax()}"
    assert double.accuracy < 1e-12
    assert double.mean < 1e-6
    assert double.var < 1e-7
    # What one ReLU that falls on the other side may do; see the test after this.
    assert single.losses.max() < 0.1
    assert max(error.max() for error in single.params.values()) < 0.5
    assert single.accuracy < 0.05
    assert single.mean < 0.05
    assert single.var < 0.05


@pytest.mark.parametrize("names", [QUICK, pytest.param(NAMES, marks=pytest.mark.slow)], ids=["quick", "all"])
def test_most_float32_runs_agree_to_rounding(names):
    runs = [
        differences(name, optimizer, decay)[np.float32]
        for name in names
        for optimizer in OPTIMIZERS
        for decay in DECAYS
    ]
    assert np.median([run.losses.max() for run in runs]) < 2e-5
    assert np.median([max(error.max() for error in run.params.values()) for run in runs]) < 1e-3
    assert np.median([run.accuracy for run in runs]) < 1e-6


@pytest.mark.parametrize("name", TRAINED)
def test_ties_in_pooling_pass_the_gradient_where_pytorch_does(name):
    """Digits in black and white and weights of few values: windows that differ, and sums that do not."""
    run = differences(name, "sgd", "none", ties=True)[np.float64]
    for where, error in run.params.items():
        assert error[0] < 1e-7, where


@functools.partial(jax.jit, static_argnames=("with_dropout", "without"), compiler_options=UNOPTIMISED)
def logits_of(with_dropout, without, params, stats, images):
    """Logits in evaluation mode, and in training mode with the new running statistics."""
    variables = {"params": params, "batch_stats": stats}
    evaluated = evaluation.predict(with_dropout, params, stats, images)
    trained = without.model.apply(
        variables, evaluation.normalize_images(images), train=True, mutable=["batch_stats"]
    )
    return evaluated, trained


@pytest.mark.parametrize("name", NAMES)
def test_logits_agree_with_pytorch(name):
    """In float32, in both modes; in evaluation mode Stabilized has its dropout of 0.3 on both sides."""
    images, _ = digits()
    net = make_torch(name, dropout=0.3)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.01, 1)  # small enough for eps to show
    params, stats = to_flax(net)
    evaluated, (trained, updated) = jax.device_get(
        logits_of(make_static(name), without_dropout(name), params, stats, images)
    )
    with torch.no_grad():
        net.double().eval()
        expected = net(torch_images(images)).numpy()
        if name == "Stabilized":
            net.dropout.p = 0.0
        expected_in_training = net.train()(torch_images(images)).numpy()
    # float32: logits of size 1, sums of up to 9,216 products each rounded to 6e-8, errors adding up as noise
    np.testing.assert_allclose(evaluated, expected, atol=5e-6)
    np.testing.assert_allclose(trained, expected_in_training, atol=5e-6)
    for a, b in zip(jax.tree.leaves(updated), jax.tree.leaves(to_flax(net)[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=3e-7)


def test_normalise_is_torchvisions():
    """ToTensor (x / 255) and Normalize(0.5, 0.5), in float32: within its rounding."""
    levels = np.arange(256, dtype=np.uint8)
    expected = (torch.tensor(levels).to(torch.float32).div(255) - 0.5) / 0.5
    np.testing.assert_allclose(jax.jit(evaluation.normalize_images)(levels), expected.numpy(), atol=1.2e-7)
