"""Label smoothing, averages of parameters and mixup: against PyTorch and definitions in NumPy."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlbench.errors import InputError
from dlbench.execution import programs
from dlbench.spec.registry import CRITERIA
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.training import evaluation, loop, mixup
from dlbench.training.losses import cross_entropy, losses_of, manual, mean_loss, weights_of_classes
from dlbench.training.state import Coefficient, Data, Hyper, Static


def initialise(key: jax.Array, images: jax.Array) -> Any:
    return {"kernel": jax.random.normal(key, (16, 3)) / 4, "bias": jnp.zeros(3)}


def compute(params: Any, images: jax.Array) -> jax.Array:
    logits: jax.Array = images.reshape(images.shape[0], -1) @ params["kernel"] + params["bias"]
    return logits


MODEL = (initialise, compute)
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 3, 30).astype(np.int32)
DATA = Data(*map(jnp.asarray, (IMAGES[:20], LABELS[:20], IMAGES[20:], LABELS[20:])))
KEYS = loop.purpose_keys(jax.random.key(3))


def hyper_of(rate: float = 0.1, **others: float) -> Hyper:
    """Numbers by their name, a double underscore for the dot of a path."""
    found = {name.replace("__", "."): Coefficient.of(value) for name, value in others.items()}
    return Hyper(jnp.float32(rate), others=found)


#: Compiled in half the time: little is run.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
init = quick(loop.init, static_argnums=0)
run_epoch = quick(loop.run_epoch, static_argnums=0)
train_epoch = quick(loop.train_epoch, static_argnums=0)
train_step = quick(loop.train_step, static_argnums=0)
validate = quick(evaluation.validate, static_argnums=0)
mixed_of = quick(mixup.mixed)


# Losses

LOGITS = np.random.default_rng(2).normal(size=(9, 5), scale=4).astype(np.float32)
TARGETS = np.random.default_rng(3).integers(0, 5, 9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_pytorchs(smoothing: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here: install dlbench[oracle]")
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
    logits = torch.tensor(LOGITS, requires_grad=True)
    expected = criterion(logits, torch.tensor(TARGETS))
    expected.sum().backward()
    for value in (smoothing, jnp.float32(smoothing)):
        loss, grads = jax.value_and_grad(lambda x, value=value: cross_entropy(x, TARGETS, value).sum())(
            jnp.asarray(LOGITS)
        )
        np.testing.assert_allclose(loss, expected.sum().item(), rtol=1e-5)
        np.testing.assert_allclose(
            cross_entropy(LOGITS, TARGETS, value), expected.detach(), rtol=2e-5, atol=1e-6
        )
        np.testing.assert_allclose(grads, logits.grad, rtol=1e-4, atol=1e-6)


def test_without_smoothing_losses_are_those_of_the_plain_cross_entropy() -> None:
    np.testing.assert_array_equal(cross_entropy(LOGITS, TARGETS, 0.0), cross_entropy(LOGITS, TARGETS))
    np.testing.assert_allclose(cross_entropy(LOGITS, TARGETS), manual(LOGITS, TARGETS), rtol=1e-5, atol=1e-6)
    for name in CRITERIA.built_in:
        assert losses_of(Static(MODEL, criterion=name), LOGITS, TARGETS).shape == (9,)


def test_training_and_validation_losses_include_the_smoothing() -> None:
    hyper = hyper_of(0.0, criterion__label_smoothing=0.2)
    static = Static(MODEL, 20)
    state = init(static, DATA, KEYS, hyper)
    state, metrics = run_epoch(static, state, DATA, KEYS, hyper)
    for images, labels, found in (
        (IMAGES[:20], LABELS[:20], metrics.train_loss),
        (IMAGES[20:], LABELS[20:], metrics.val_loss),
    ):
        logits = compute(state.params, jnp.asarray(images / 127.5 - 1, jnp.float32))
        np.testing.assert_allclose(found, cross_entropy(logits, labels, 0.2).mean(), rtol=1e-5)


# Class weights

WEIGHTS = np.array([0.5, 1, 3, 1, 2], np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_are_pytorchs(smoothing: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here: install dlbench[oracle]")
    logits = torch.tensor(LOGITS, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        logits, torch.tensor(TARGETS).long(), weight=torch.tensor(WEIGHTS), label_smoothing=smoothing
    )
    expected.backward()
    static = Static(MODEL, criterion_args=(("label_smoothing", smoothing),))
    loss, grads = jax.value_and_grad(lambda x: mean_loss(static, x, TARGETS, class_weights=WEIGHTS))(
        jnp.asarray(LOGITS)
    )
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)
    np.testing.assert_allclose(grads, logits.grad, rtol=1e-4, atol=1e-7)
    if not smoothing:  # a criterion that takes no weights is weighted from outside
        written_out = mean_loss(Static(MODEL, criterion="manual"), LOGITS, TARGETS, class_weights=WEIGHTS)
        np.testing.assert_allclose(written_out, expected.item(), rtol=1e-6)


def test_training_and_validation_losses_are_weighted() -> None:
    hyper, static = hyper_of(0.0), Static(MODEL, 20)
    data = DATA._replace(class_weights=jnp.asarray(WEIGHTS[:3]))
    _, metrics = run_epoch(static, init(static, data, KEYS, hyper), data, KEYS, hyper)
    state = init(static, DATA, KEYS, hyper)
    for images, labels, found in (
        (IMAGES[:20], LABELS[:20], metrics.train_loss),
        (IMAGES[20:], LABELS[20:], metrics.val_loss),
    ):
        logits = compute(state.params, jnp.asarray(images / 127.5 - 1, jnp.float32))
        expected = np.average(cross_entropy(logits, labels), weights=WEIGHTS[labels])
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0] * 7 + [1] * 2 + [2] * 21)
    balanced = TrialSpec(class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights_of_classes(balanced, labels, 3), expected, rtol=1e-7)
    with pytest.raises(InputError, match="class 3 has no training image"):
        weights_of_classes(balanced, labels, 4)
    named = weights_of_classes(TrialSpec(class_weights={2: 4}), labels, 3)
    np.testing.assert_array_equal(named, [1, 1, 4])
    assert weights_of_classes(TrialSpec(), labels, 3) is None


# The average of the parameters


def test_the_average_is_pytorchs() -> None:
    """Step by step, over two epochs with a short last batch, while SGD changes the parameters."""
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here: install dlbench[oracle]")
    net = torch.nn.Linear(16, 3)
    averaged = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8)
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    static, hyper = Static(MODEL, 6, "sgd"), hyper_of(0.1, ema_decay=0.8, optimizer__momentum=0.9)
    state = init(static, DATA, KEYS, hyper)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(np.asarray(state.params["kernel"]).T))
        net.bias.zero_()
    for epoch in range(1, 3):
        order = np.asarray(loop.permutation(jax.random.fold_in(KEYS.order, epoch), 20))
        for start in range(0, 20, 6):
            places = order[start : start + 6]
            images = torch.tensor(IMAGES[places].reshape(len(places), -1) / 127.5 - 1, dtype=torch.float32)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images), torch.tensor(LABELS[places]).long()).backward()
            optimizer.step()
            averaged.update_parameters(net)
        state, _, _ = train_epoch(static, state, DATA, KEYS, hyper)
        np.testing.assert_allclose(state.params["kernel"].T, net.weight.detach(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            state.ema_params["kernel"].T, averaged.module.weight.detach(), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(
            state.ema_params["bias"], averaged.module.bias.detach(), rtol=1e-4, atol=1e-6
        )


def test_the_average_is_what_is_evaluated_and_kept() -> None:
    static, hyper = Static(MODEL, 10), hyper_of(0.5, ema_decay=0.9)
    state = init(static, DATA, KEYS, hyper)
    state, metrics = run_epoch(static, state, DATA, KEYS, hyper)
    pixels = jnp.asarray(IMAGES[20:] / 127.5 - 1, jnp.float32)
    loss = cross_entropy(compute(state.ema_params, pixels), LABELS[20:]).mean()
    other = cross_entropy(compute(state.params, pixels), LABELS[20:]).mean()
    np.testing.assert_allclose(metrics.val_loss, loss, rtol=1e-5)
    assert abs(float(loss - other)) > 1e-3
    jax.tree.map(np.testing.assert_array_equal, state.best_params, state.ema_params)


@pytest.mark.slow
def test_an_average_changes_no_step() -> None:
    plain, averaged = (
        loop.fit(Static(MODEL, 6), DATA, jax.random.key(0), hyper, 2)[0]
        for hyper in (hyper_of(0.1), hyper_of(0.1, ema_decay=0.9))
    )
    jax.tree.map(np.testing.assert_array_equal, plain.params, averaged.params)
    assert plain.ema_params == ()
    assert not np.array_equal(averaged.params["kernel"], averaged.ema_params["kernel"])


# Mixup

#: What the network sees: float32 images.
BATCH = jnp.asarray(IMAGES[:8] / 127.5 - 1, jnp.float32)
BATCH_LABELS = jnp.asarray(LABELS[:8])


def test_images_are_weighted_means_of_pairs() -> None:
    """The weights and the order, taken from the targets, give the images by NumPy's arithmetic."""
    mixed, ((first, weight), (second, rest)) = mixed_of(
        BATCH, BATCH_LABELS, jax.random.key(1), jnp.float32(0.4)
    )
    order = np.asarray(
        jax.random.permutation(jax.random.split(jax.random.fold_in(jax.random.key(1), mixup._PURPOSE))[1], 8)
    )
    np.testing.assert_array_equal(first, BATCH_LABELS)
    np.testing.assert_array_equal(second, BATCH_LABELS[order])
    share = float(weight)
    assert 0 <= share <= 1
    assert float(rest) == pytest.approx(1 - share, abs=1e-6)
    expected = share * np.asarray(BATCH) + (1 - share) * np.asarray(BATCH)[order]
    np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)
    assert sorted(order) == [*range(8)]


@pytest.mark.parametrize("alpha", [0.2, *(pytest.param(a, marks=pytest.mark.slow) for a in (1.0, 4.0))])
def test_weights_are_drawn_from_the_beta_distribution(alpha: float) -> None:
    @quick
    def weights(keys: Any) -> Any:
        def weight(key: Any) -> Any:
            return mixup.mixed(BATCH[:2], BATCH_LABELS[:2], key, jnp.float32(alpha))[1][0][1]

        return jax.vmap(weight)(keys)

    drawn = np.asarray(weights(jax.random.split(jax.random.key(0), 4000)))
    assert scipy.stats.kstest(drawn.clip(1e-12, 1 - 1e-7), scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_nothing_is_mixed_without_alpha() -> None:
    mixed, targets = mixup.mixed(BATCH, BATCH_LABELS, jax.random.key(1), None)
    assert mixed is BATCH
    assert targets == ((BATCH_LABELS, 1.0),)


def test_a_step_with_mixup_is_that_of_numpy() -> None:
    """Loss, gradient and hits of one step, from the weight and the order that the step draws."""
    static, hyper = Static(MODEL, 8, "sgd"), hyper_of(0.3, mixup=0.7, optimizer__momentum=0.0)
    state = init(static, DATA, KEYS, hyper)
    carry = loop.Carry(state.params, state.batch_stats, state.opt_state)
    after, (loss, hits) = train_step(
        static, carry, DATA.train_images[:8], DATA.train_labels[:8], KEYS, jnp.asarray(2), hyper
    )
    images, ((_, share), (others, _)) = mixed_of(
        BATCH, BATCH_LABELS, jax.random.fold_in(KEYS.augment, 2), jnp.float32(0.7)
    )
    pixels = np.asarray(images, np.float64).reshape(8, -1)
    kernel, share, second = np.asarray(state.params["kernel"], np.float64), float(share), np.asarray(others)
    logits = pixels @ kernel
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = share * np.eye(3)[LABELS[:8]] + (1 - share) * np.eye(3)[second]
    np.testing.assert_allclose(loss, -(targets * np.log(shares)).sum(1).mean(), rtol=1e-5)
    step = 0.3 * pixels.T @ (shares - targets) / 8
    np.testing.assert_allclose(after.params["kernel"], kernel - step, rtol=1e-4, atol=1e-6)
    answers = logits.argmax(1)
    expected = share * (answers == LABELS[:8]).sum() + (1 - share) * (answers == second).sum()
    np.testing.assert_allclose(hits, expected, rtol=1e-5)


@pytest.mark.slow
def test_steps_and_epochs_mix_anew_and_validation_does_not() -> None:
    drawn = {
        float(
            mixup.mixed(BATCH, BATCH_LABELS, jax.random.fold_in(KEYS.augment, step), jnp.float32(1.0))[1][0][
                1
            ]
        )
        for step in range(5)
    }
    assert len(drawn) == 5
    static = Static(MODEL, 10)
    state = init(static, DATA, KEYS, hyper_of())
    plain, mixed = (validate(static, state, DATA, hyper)[1:] for hyper in (hyper_of(), hyper_of(mixup=1.0)))
    np.testing.assert_array_equal(plain, mixed)


# Accuracy


@pytest.mark.slow
def test_training_accuracy_counts_images_whatever_the_batch() -> None:
    """With a rate of 0 the parameters stay, and every batch size counts the same images."""
    accuracies = set()
    for size in (6, 20):
        static = Static(MODEL, size)
        state = init(static, DATA, KEYS, hyper_of(0.0))
        _, _, accuracy = train_epoch(static, state, DATA, KEYS, hyper_of(0.0))
        accuracies.add(round(float(accuracy) * 20, 4))
    logits = compute(state.params, jnp.asarray(IMAGES[:20] / 127.5 - 1, jnp.float32))
    assert accuracies == {float((np.asarray(logits).argmax(1) == LABELS[:20]).sum())}


@pytest.mark.parametrize("criterion", CRITERIA.built_in)
def test_the_loss_over_test_images_has_the_bits_of_its_operations(criterion: str) -> None:
    trial = Trial(spec=TrialSpec(criterion=criterion), data_digest="")
    rng = np.random.default_rng(0)
    by_number = CRITERIA.built_in[criterion].targets == "numbers"
    labels = jnp.asarray(rng.normal(size=999).astype(np.float32) if by_number else rng.integers(0, 10, 999))
    for weights in (None,) if by_number else (None, jnp.asarray(rng.uniform(0.5, 2, 10), jnp.float32)):
        for scale in (0.1, 3.0, 30.0):
            logits = rng.normal(size=(999, 1 if by_number else 10), scale=scale).astype(np.float32)
            loss = programs.mean_test_loss(trial, logits, labels, weights)
            expected = mean_loss(
                Static(None, criterion=criterion), jnp.asarray(logits), labels, class_weights=weights
            )
            assert loss.dtype == expected.dtype
            np.testing.assert_array_equal(loss, expected)
