"""Rotations and shifts against torchvision's formulas, written out in numpy."""

import importlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

module = importlib.import_module("dlbench.training.augmentation")
affine = jax.jit(module.affine)
SHAPES = [(28, 28, 1), (27, 27, 1), (32, 20, 3)]


def random_images(count, shape, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (count, *shape), dtype=np.uint8)


def moved(images, angles, shifts):
    return np.asarray(affine(images, np.asarray(angles, np.float32), np.asarray(shifts, np.float32)))


def torchvision_affine(image, degrees, right, down):
    """``torchvision.transforms.functional.affine(..., NEAREST, fill=0)``; degrees clockwise.

    ``_get_inverse_affine_matrix``, ``_gen_affine_grid`` and ``grid_sample(align_corners=False)`` in one.
    Returns the image, and where the source lies so near the middle of two pixels that rounding decides.
    """
    height, width, _ = image.shape
    angle = np.deg2rad(degrees)
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    out, close = np.zeros_like(image), np.zeros((height, width), bool)
    for i in range(height):
        for j in range(width):
            x, y = j + 0.5 - width / 2, i + 0.5 - height / 2
            x, y = inverse @ (x - right, y - down)
            grid_x, grid_y = x / (width / 2), y / (height / 2)  # [-1, 1]
            column, row = ((grid_x + 1) * width - 1) / 2, ((grid_y + 1) * height - 1) / 2
            close[i, j] = min(abs(column % 1 - 0.5), abs(row % 1 - 0.5)) < 1e-4
            column, row = int(np.rint(column)), int(np.rint(row))
            if 0 <= row < height and 0 <= column < width:
                out[i, j] = image[row, column]
    return out, close


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torchvisions_semantics(shape):
    generator = np.random.default_rng(1)
    images = random_images(6, shape)
    degrees = generator.uniform(-30, 30, 6)
    shifts = generator.integers(-3, 4, (6, 2))
    ours = moved(images, np.deg2rad(-degrees), shifts)  # ours turn counter-clockwise
    for image, one, angle, (down, right) in zip(images, ours, degrees, shifts, strict=True):
        expected, close = torchvision_affine(image, angle, right, down)
        assert close.mean() < 0.01
        np.testing.assert_array_equal(one[~close], expected[~close])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_angle_and_no_shift_change_nothing(shape):
    images = random_images(6, shape)
    np.testing.assert_array_equal(moved(images, np.zeros(6), np.zeros((6, 2))), images)


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_quarter_turns_are_counter_clockwise(shape):
    images = random_images(6, shape)
    turns = [1, 2, 3, -1, -2, 4]
    ours = moved(images, [turn * np.pi / 2 for turn in turns], np.zeros((6, 2)))
    for image, one, turn in zip(images, ours, turns, strict=True):
        np.testing.assert_array_equal(one, np.rot90(image, turn))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shifts_fill_with_zeros(shape):
    images = random_images(6, shape)
    shifts = [(0, 1), (2, 0), (-3, 2), (1, -1), (-1, -3), (100, 0)]
    ours = moved(images, np.zeros(6), shifts)
    height, width, _ = shape
    for image, one, (down, right) in zip(images, ours, shifts, strict=True):
        expected = np.zeros_like(image)
        for i in range(height):
            for j in range(width):
                if 0 <= i - down < height and 0 <= j - right < width:
                    expected[i, j] = image[i - down, j - right]
        np.testing.assert_array_equal(one, expected)


def draws(key, count, height=28, width=28):
    """The angles in degrees, and the shifts."""
    with mock.patch.object(module, "affine") as spy:
        module.augment(jnp.zeros((count, height, width, 1), jnp.uint8), key)
    _, angles, shifts = spy.call_args.args
    return np.rad2deg(np.asarray(angles)), np.asarray(shifts)


def test_angles_are_uniform_within_30_degrees():
    angles, _ = draws(jax.random.key(0), 4000)
    assert np.abs(angles).max() <= 30.001
    assert angles.min() < -29.5
    assert angles.max() > 29.5
    counts, _ = np.histogram(angles, 10, (-30, 30))
    assert np.square((counts - 400) / 20).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_shifts_are_whole_pixels_up_to_a_tenth():
    angles, shifts = draws(jax.random.key(0), 4000, 20, 40)
    np.testing.assert_array_equal(shifts, np.round(shifts))
    assert shifts.min(0).tolist() == [-2, -4]  # rows, columns
    assert shifts.max(0).tolist() == [2, 4]
    # As torchvision has it, round(U(-2, 2)): the outermost values are half as likely as the others.
    down = [np.mean(shifts[:, 0] == value) for value in (-2, -1, 0, 1, 2)]
    np.testing.assert_allclose(down, [0.125, 0.25, 0.25, 0.25, 0.125], atol=0.03)
    one_stream = shifts.ravel()[:4000]  # where draws from one key would meet again
    for a, b in [(shifts[:, 0], shifts[:, 1]), (shifts[:, 0], angles), (one_stream, angles)]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.08


def test_every_image_and_every_key_draws_anew():
    angles, shifts = draws(jax.random.key(0), 200)
    assert len(np.unique(angles)) == 200
    assert len(np.unique(shifts, axis=0)) > 30
    other_angles, other_shifts = draws(jax.random.key(1), 200)
    assert not (angles == other_angles).any()
    assert (shifts != other_shifts).any()
    again_angles, again_shifts = draws(jax.random.key(0), 200)
    np.testing.assert_array_equal(angles, again_angles)
    np.testing.assert_array_equal(shifts, again_shifts)


def test_augment_moves_the_images_by_its_draws():
    images = random_images(8, (28, 28, 1))
    key = jax.random.key(3)
    angles, shifts = draws(key, 8)
    ours = np.asarray(jax.jit(module.augment)(images, key))
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, moved(images, np.deg2rad(angles), shifts))
    assert all((one != image).any() for one, image in zip(ours, images, strict=True))
