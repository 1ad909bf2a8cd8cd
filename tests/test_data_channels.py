"""The mean and standard deviation of each channel, and images that are normalised with them."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlbench.data import channel_statistics, channels
from dlbench.training.evaluation import normalize_images


def random_images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(28, 28, 1), (27, 13, 3), (4, 4, 2)], ids=str)
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_statistics_are_exact(shape: tuple[int, ...], chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHUNK_VALUES", chunk)
    images = random_images(9, *shape) // np.array([1, 3, 9][: shape[-1]], np.uint8)
    mean, std = channel_statistics(images)
    assert mean.dtype == std.dtype == np.float32
    for channel in range(shape[-1]):
        values = [Fraction(int(value), 255) for value in images[..., channel].ravel()]
        expected = sum(values) / len(values)
        variance = sum((value - expected) ** 2 for value in values) / len(values)
        assert mean[channel] == np.float32(float(expected))
        assert std[channel] == np.float32(float(variance) ** 0.5)


def test_the_spread_of_nearly_constant_images_is_not_lost() -> None:
    images = np.full((400, 32, 32, 1), 250, np.uint8)
    images[0, 0, 0] = 251
    share = Fraction(1, images.size)
    _, std = channel_statistics(images)
    assert std[0] == np.float32(float(share * (1 - share)) ** 0.5 / 255)


def test_only_the_chosen_images_count() -> None:
    images = random_images(20, 5, 4, 3)
    indices = np.array([3, 17, 3, 0])
    for ours, expected in zip(
        channel_statistics(images, indices), channel_statistics(images[indices]), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    assert (channel_statistics(images, indices)[0] != channel_statistics(images)[0]).all()


def test_a_constant_channel_has_the_deviation_one() -> None:
    images = random_images(3, 4, 4, 2)
    images[..., 1] = 51
    mean, std = channel_statistics(images)
    assert mean[1] == np.float32(0.2)
    assert std[1] == 1
    assert std[0] < 1


def test_statistics_need_little_memory() -> None:
    images = np.zeros((6000, 32, 32, 3), np.uint8)
    tracemalloc.start()
    channel_statistics(images, np.arange(6000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes


def test_the_default_brings_images_to_minus_one_to_one() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    ours = np.asarray(jax.jit(normalize_images)(images))
    assert ours.dtype == np.float32
    before = jax.jit(lambda images: (images.astype(jnp.float32) / 255.0 - 0.5) / 0.5)
    np.testing.assert_array_equal(ours, before(images))  # as it was when the mean could not be chosen
    assert (ours.min(), ours.max()) == pytest.approx((-1, 1))


def test_statistics_normalise_the_images_that_they_are_of() -> None:
    images = random_images(40, 9, 7, 3) // np.array([1, 2, 5], np.uint8)
    mean, std = channel_statistics(images)
    ours = np.asarray(jax.jit(normalize_images)(images, mean, std), np.float64)
    np.testing.assert_allclose(ours.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(ours.std((0, 1, 2)), 1, atol=1e-6)
    expected = (images / 255 - mean.astype(float)) / std.astype(float)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_every_lane_may_have_statistics_of_its_own() -> None:
    images = random_images(4, 5, 5, 3)
    means, stds = jnp.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]]), jnp.array([[0.2, 0.2, 0.1], [0.5, 0.5, 0.5]])
    ours = jax.jit(jax.vmap(normalize_images, in_axes=(None, 0, 0)))(images, means, stds)
    for lane in range(2):
        np.testing.assert_array_equal(ours[lane], jax.jit(normalize_images)(images, means[lane], stds[lane]))
    np.testing.assert_array_equal(ours[1], jax.jit(normalize_images)(images))
