"""Training: probes with known answers, the order of images, keys, lanes, optimizers by hand."""

import functools
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlbench import models
from dlbench.spec import registry
from dlbench.training import evaluation, loop, losses
from dlbench.training.state import Data, Hyper, Keys, Static, TrainState

HYPER = Hyper(np.float32(0.02))
TRACES = 0
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
fit = quick_jit(loop.fit, static_argnums=(0, 4))
evaluate = quick_jit(evaluation.evaluate, static_argnums=0)


class Linear(nn.Module):
    """A user's model: plain Flax, and does not ask whether it is being trained."""

    num_classes: int = 4

    @nn.compact
    def __call__(self, x):
        global TRACES
        TRACES += 1
        return models.Dense(self.num_classes)(x.reshape(x.shape[0], -1))


class Hidden(nn.Module):
    num_classes: int = 4

    @nn.compact
    def __call__(self, x, train=False):
        return Linear(self.num_classes)(nn.relu(models.Dense(32)(x.reshape(x.shape[0], -1))))


def make_data(images, labels, val_images=None, val_labels=None):
    val_images, val_labels = (images, labels) if val_images is None else (val_images, val_labels)
    return Data(*map(jnp.asarray, (images, labels, val_images, val_labels)))


def quadrants(count, seed=0):
    """Noise, and one bright quadrant of four: its number is the label."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 100, (count, 4, 4, 1), dtype=np.uint8)
    labels = generator.integers(0, 4, count).astype(np.int32)
    for image, label in zip(images, labels, strict=True):
        row, column = 2 * (label // 2), 2 * (label % 2)
        image[row : row + 2, column : column + 2] += 150
    return images, labels


def noise(count, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    return images, generator.integers(0, 4, count).astype(np.int32)


def larger(images):
    """4x4 to 8x8 pixels, enough for two poolings."""
    return np.kron(images, np.ones((1, 2, 2, 1), np.uint8))


SEPARABLE = make_data(*quadrants(90), *quadrants(50, seed=1))
LINEAR = Static(Linear(), batch_size=16)


def assert_identical(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def differ(a, b):
    return any(
        (np.asarray(x) != np.asarray(y)).any() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


# Probes with known answers


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_separable_classes_are_learned(optimizer):
    static = Static(Linear(), 16, optimizer)
    state, metrics = fit(static, SEPARABLE, jax.random.key(0), HYPER, 12)
    assert metrics.val_accuracy[-1] == 1
    assert metrics.train_accuracy[-1] == 1
    assert metrics.train_loss[-1] < metrics.train_loss[0] / 3
    loss, accuracy = evaluate(static, state.params, {}, SEPARABLE.val_images, SEPARABLE.val_labels)
    np.testing.assert_allclose([loss, accuracy], [metrics.val_loss[-1], 1], rtol=1e-5)


def test_eight_images_are_memorised():
    images, labels = noise(8)
    _, metrics = fit(Static(Hidden(), 3), make_data(images, labels), jax.random.key(0), HYPER, 40)
    assert metrics.train_accuracy[-1] == 1
    assert metrics.train_loss[-1] < 0.05


def test_labels_without_meaning_give_chance():
    data = make_data(*noise(90), *noise(1000, seed=1))
    _, metrics = fit(LINEAR, data, jax.random.key(0), HYPER, 12)
    assert metrics.train_accuracy[-1] > 0.35  # it has learned the noise by heart
    assert abs(metrics.val_accuracy[-1] - 0.25) < 5 * (0.25 * 0.75 / 1000) ** 0.5


@pytest.fixture(scope="module")
def all_random():
    """An epoch in which all four keys matter: a small network with dropout and augmentation, as a function."""
    model = models.ExperimentalCNN(num_classes=4, batch_norm=True, dropout_rate=0.5)
    static = Static(model, 4, transform="augmented")
    images, labels = quadrants(12)
    data = make_data(larger(images), labels)

    @quick_jit
    def run(keys, learning_rate, weight_decay, epoch):
        hyper = Hyper(learning_rate, weight_decay)
        state = loop.init(static, data, keys, hyper)._replace(epoch=epoch)
        after, loss, _ = loop.train_epoch(static, state, data, keys, hyper)
        return state.params, after.params, after.batch_stats, loss

    keys = loop.purpose_keys(jax.random.key(0))

    def with_defaults(keys=keys, learning_rate=0.01, weight_decay=0.0, epoch=0):
        return run(keys, np.float32(learning_rate), np.float32(weight_decay), np.int32(epoch))

    return with_defaults


def test_learning_rate_zero_changes_no_parameter(all_random):
    before, after, stats, _ = all_random(learning_rate=0.0, weight_decay=0.5)
    assert_identical(before, after)
    assert (np.asarray(stats["ConvBlock_0"]["norm"]["mean"]) != 0).any()  # batch statistics do move


# What an epoch does


def watched_epoch(count, size, keys=None, epoch=0):
    """Run ``train_epoch`` with a step that only notes what it is given.

    Labels are numbered: they are the images' places. Returns the labels in the order of training, each
    step's dropout and augmentation keys, and what the epoch reports.
    """
    images = jnp.arange(count, dtype=jnp.uint8)[:, None, None, None]
    data = make_data(images, jnp.arange(count, dtype=jnp.int32))
    steps = -(-count // size)

    def watch(static, carry, images, labels, keys, index, hyper, past, class_weights):
        seen, dropout, augment, _ = carry
        seen = jax.lax.dynamic_update_slice(seen, labels, (index * size,))
        step_keys = [jax.random.key_data(jax.random.fold_in(k, index)) for k in (keys.dropout, keys.augment)]
        carry = loop.Carry(seen, dropout.at[index].set(step_keys[0]), augment.at[index].set(step_keys[1]))
        return carry, (labels.mean(), (images[:, 0, 0, 0] == labels.astype(jnp.uint8)).sum())

    keys = loop.purpose_keys(jax.random.key(0)) if keys is None else keys
    empty = jnp.zeros((steps, 2), jnp.uint32)
    seen = jnp.full(steps * size, -1, jnp.int32)
    state = TrainState(seen, empty, empty, jnp.asarray(epoch), *[None] * 4)
    with mock.patch.object(loop, "train_step", watch):
        epoch_of = quick_jit(functools.partial(loop.train_epoch, Static(Linear(), size)))
        state, loss, accuracy = epoch_of(state, data, keys, HYPER)
    assert state.epoch == epoch + 1
    seen, dropout, augment = map(np.asarray, (state.params, state.batch_stats, state.opt_state))
    return seen[:count], dropout, augment, float(loss), float(accuracy)


@pytest.mark.parametrize(("count", "size"), [(12, 4), (13, 4), (15, 4), (3, 4), (5, 1)])
def test_every_image_is_trained_on_once_an_epoch(count, size):
    seen, _, _, loss, accuracy = watched_epoch(count, size)
    assert sorted(seen) == list(range(count))  # the short last batch too
    assert accuracy == 1  # images and labels stay together, and the hits are counted per image
    batches = [seen[start : start + size].mean() for start in range(0, count, size)]
    assert loss == pytest.approx(np.mean(batches))  # the mean of batch means, as PyTorch loops have it


def test_every_epoch_has_its_own_order():
    first, second, again = (watched_epoch(50, 8, epoch=epoch)[0] for epoch in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert (first != second).mean() > 0.5
    assert (first != np.arange(50)).mean() > 0.5


def test_orders_are_uniform():
    permutations = quick_jit(jax.vmap(functools.partial(loop.permutation, count=4)))
    orders = np.asarray(permutations(jax.random.split(jax.random.key(0), 2400)))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert np.square((counts - 100) / 10).sum() < 49.7  # chi-square, 23 degrees of freedom, p = 0.001


def test_a_batch_larger_than_the_data_trains():
    images, labels = quadrants(5)
    state, metrics = fit(LINEAR, make_data(images, labels), jax.random.key(0), HYPER, 3)
    assert metrics.train_loss[2] < metrics.train_loss[0]
    assert np.isfinite(jax.tree.leaves(state.params)[0]).all()


# Keys


def test_each_purpose_has_its_key():
    keys = np.array([jax.random.key_data(key) for key in loop.purpose_keys(jax.random.key(0))])
    assert len(np.unique(keys, axis=0)) == 4


def test_each_draw_has_its_key():
    """Steps and epochs: nothing is drawn twice."""
    drawn = [keys for epoch in (0, 1, 2) for keys in watched_epoch(13, 4, epoch=epoch)[1:3]]
    assert len(np.unique(np.concatenate(drawn), axis=0)) == 2 * 3 * 4


@pytest.mark.parametrize("purpose", Keys._fields)
def test_changing_one_key_leaves_the_other_draws(purpose, all_random):
    keys = loop.purpose_keys(jax.random.key(0))
    other = keys._replace(**{purpose: jax.random.key(99)})
    before = dict(zip(("order", "dropout", "augment"), watched_epoch(13, 4, keys), strict=False))
    after = dict(zip(("order", "dropout", "augment"), watched_epoch(13, 4, other), strict=False))
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {purpose} - {"init"}

    start, end, _, _ = all_random(keys)
    other_start, other_end, _, _ = all_random(other)
    assert differ(start, other_start) == (purpose == "init")
    assert differ(end, other_end)  # each of them matters


def test_same_keys_same_bits(all_random):
    assert_identical(all_random(), all_random())
    assert differ(all_random()[1], all_random(epoch=1)[1])


# Criteria


def test_manual_equals_cross_entropy():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 5, (50, 10)).astype(np.float32)
    labels = generator.integers(0, 10, 50).astype(np.int32)
    values, grads = {}, {}
    for name in registry.CRITERIA.built_in:
        criterion = registry.CRITERIA.load(name)
        values[name] = quick_jit(criterion)(logits, labels)
        grads[name] = quick_jit(jax.grad(lambda x, criterion=criterion: criterion(x, labels).mean()))(logits)
    exact = logits.astype(np.float64)
    expected = np.log(np.exp(exact).sum(1)) - exact[np.arange(50), labels]
    for name in ("cross_entropy", "manual"):
        assert values[name].shape == (50,)
        np.testing.assert_allclose(values[name], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(grads["manual"], grads["cross_entropy"], rtol=1e-4, atol=1e-7)
    softmax = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
    np.testing.assert_allclose(grads["manual"], (softmax - np.eye(10)[labels]) / 50, rtol=1e-4, atol=1e-7)


def test_manual_is_infinite_where_the_probability_underflows():
    logits, labels = jnp.array([[200.0, 0.0], [0.0, 200.0]]), jnp.array([1, 1])
    np.testing.assert_array_equal(losses.manual(logits, labels), [np.inf, 0])
    np.testing.assert_allclose(losses.cross_entropy(logits, labels), [200, 0])


# The best epoch


def test_the_first_of_the_best_epochs_is_kept():
    accuracies = [0.5, 0.7, 0.6, 0.7]
    state = TrainState(0, {}, (), jnp.zeros((), jnp.int32), -1, {}, jnp.float32(-1), jnp.int32(0))

    def next_epoch(static, state, *_):
        epoch = state.epoch + 1
        return state._replace(params=10 * epoch, epoch=epoch), 0.0, 0.0

    with (
        mock.patch.object(loop, "train_epoch", next_epoch),
        mock.patch.object(evaluation, "evaluate") as evaluate,
    ):
        evaluate.side_effect = [(0.0, jnp.float32(accuracy)) for accuracy in accuracies]
        kept = []
        for _ in accuracies:
            state, _ = loop.run_epoch(LINEAR, state, SEPARABLE, None, HYPER)
            kept.append((int(state.best_epoch), int(state.best_params), float(state.best_val_accuracy)))
    assert [(epoch, params) for epoch, params, _ in kept] == [(1, 10), (2, 20), (2, 20), (2, 20)]
    np.testing.assert_allclose([accuracy for _, _, accuracy in kept], [0.5, 0.7, 0.7, 0.7])


def test_the_best_parameters_have_the_best_accuracy():
    data = make_data(*quadrants(40), *noise(60))  # validation accuracy goes up and down
    state, metrics = fit(LINEAR, data, jax.random.key(2), Hyper(np.float32(0.1)), 6)
    assert metrics.val_accuracy[-1] < metrics.val_accuracy.max()  # or the last would do for the best
    assert state.best_epoch == 1 + metrics.val_accuracy.argmax()
    assert state.best_val_accuracy == metrics.val_accuracy.max()
    _, accuracy = evaluate(LINEAR, state.best_params, {}, data.val_images, data.val_labels)
    assert accuracy == state.best_val_accuracy
    assert state.epoch == 6


def test_evaluation_is_the_mean_over_images():
    """Over all of them and no padding, whatever the chunk."""
    for count in (99, 101):
        images, labels = quadrants(count)
        params = {
            "Dense_0": {"kernel": np.eye(16, 4, dtype=np.float32), "bias": np.arange(4, dtype=np.float32)}
        }
        loss, accuracy = evaluate(LINEAR, params, {}, images, labels)
        logits = (images.reshape(count, 16).astype(np.float64) / 255 - 0.5) / 0.5 @ np.eye(16, 4) + np.arange(
            4
        )
        expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(count), labels]
        assert loss == pytest.approx(expected.mean(), rel=1e-5)
        assert accuracy == pytest.approx((logits.argmax(1) == labels).mean())


# Lanes


@pytest.fixture(scope="module")
def lanes():
    """Four lanes, the second of which diverges, and each of them alone."""
    static = Static(models.ExperimentalCNN(num_classes=4), 30, "sgd")
    data = SEPARABLE._replace(
        train_images=larger(SEPARABLE.train_images), val_images=larger(SEPARABLE.val_images)
    )
    keys = jnp.stack([jax.random.key(seed) for seed in range(4)])
    hyper = Hyper(np.array([0.01, 1e20, 0.1, 0.03], np.float32), np.array([0, 0, 0.1, 1], np.float32))

    def train(key, hyper):
        return loop.fit(static, data, key, hyper, 2)

    together = quick_jit(jax.vmap(train))(keys, hyper)
    fit_alone = quick_jit(train)
    alone = [fit_alone(keys[lane], Hyper(*(h[lane] for h in hyper[:2]))) for lane in range(4)]
    return jax.device_get(together), jax.device_get(alone)


def test_divergence_stays_in_its_lane(lanes):
    (state, metrics), _ = lanes
    finite = np.isfinite(metrics.train_loss).all(1)
    assert finite.tolist() == [True, False, True, True]
    for leaf in jax.tree.leaves(state.params):
        assert np.isfinite(leaf[[0, 2, 3]]).all()


def test_a_lane_agrees_with_the_trial_alone(lanes):
    (state, metrics), alone = lanes
    for lane in (0, 2, 3):
        single_state, single_metrics = alone[lane]
        # float32 sums in another order, over 6 steps: losses near 1, weights near 0.3
        np.testing.assert_allclose(metrics.train_loss[lane], single_metrics.train_loss, rtol=1e-4)
        np.testing.assert_allclose(metrics.val_accuracy[lane], single_metrics.val_accuracy, atol=0.021)
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(single_state.params), strict=True):
            np.testing.assert_allclose(a[lane], b, rtol=1e-3, atol=1e-4)


def test_reruns_are_bit_identical():
    first, again = (fit(LINEAR, SEPARABLE, jax.random.key(5), HYPER, 3) for _ in range(2))
    assert_identical(first, again)


def test_one_trace_for_all_learning_rates_and_seeds():
    epoch = quick_jit(functools.partial(loop.train_epoch, LINEAR))
    before, traces = TRACES, []
    for seed, learning_rate, weight_decay in [(0, 0.1, 0.0), (1, 0.2, 0.0), (2, 0.1, 0.3)]:
        hyper = Hyper(np.float32(learning_rate), np.float32(weight_decay))
        keys = loop.purpose_keys(jax.random.key(seed))
        params = {"Dense_0": {"kernel": np.zeros((16, 4), np.float32), "bias": np.zeros(4, np.float32)}}
        state = TrainState(
            params,
            {},
            loop._optimizer(LINEAR, hyper).init(params),
            np.int32(seed),
            params,
            {},
            0.0,
            np.int32(0),
        )
        epoch(state, SEPARABLE, keys, hyper)
        traces.append(TRACES - before)
    assert traces[0] > 0
    assert traces == traces[:1] * 3


# Optimizers


@pytest.mark.parametrize("decay_mode", ["decoupled", "l2"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_three_steps_by_hand(optimizer, decay_mode):
    """Softmax regression, its gradient and the update rules written out."""
    rate, decay = 0.1, 0.3
    static = Static(Linear(), 5, optimizer, decay_mode)
    hyper = Hyper(np.float32(rate), np.float32(decay))
    images, labels = quadrants(15)
    generator = np.random.default_rng(0)
    p = [generator.normal(size=(16, 4)), generator.normal(size=4)]
    params = {"Dense_0": {"kernel": p[0].astype(np.float32), "bias": p[1].astype(np.float32)}}
    carry = params, {}, loop._optimizer(static, hyper).init(params)
    step = quick_jit(functools.partial(loop.train_step, static))
    m, v = [0.0, 0.0], [0.0, 0.0]
    for t in range(3):
        batch = slice(5 * t, 5 * t + 5)
        keys = loop.purpose_keys(jax.random.key(0))
        carry, (loss, hits) = step(carry, images[batch], labels[batch], keys, np.int32(t), hyper)

        x = (images[batch].reshape(5, 16) / 255 - 0.5) / 0.5
        logits = x @ p[0] + p[1]
        softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert loss == pytest.approx(-np.log(softmax[np.arange(5), labels[batch]]).mean(), rel=1e-4)
        assert hits == (logits.argmax(1) == labels[batch]).sum()
        error = (softmax - np.eye(4)[labels[batch]]) / 5
        for i, g in enumerate((x.T @ error, error.sum(0))):
            if decay_mode == "l2":
                g = g + decay * p[i]
            if optimizer == "sgd":
                m[i] = 0.9 * m[i] + g
                update = m[i]
            else:
                m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g**2
                update = m[i] / (1 - 0.9 ** (t + 1)) / (np.sqrt(v[i] / (1 - 0.999 ** (t + 1))) + 1e-8)
            shrink = rate * decay if decay_mode == "decoupled" else 0
            p[i] = p[i] * (1 - shrink) - rate * update
    layer = carry[0]["Dense_0"]
    np.testing.assert_allclose(layer["kernel"], p[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer["bias"], p[1], rtol=1e-4, atol=1e-5)
