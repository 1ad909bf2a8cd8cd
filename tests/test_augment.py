"""Augmentation: what each operation does to pixels, against definitions written out in NumPy, and what it draws."""

from __future__ import annotations

import functools
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pictures
from scipy import stats

from dlbench.spec import ranges
from dlbench.spec.registry import TRANSFORMS
from dlbench.training.augmentation import augment
from dlbench.training.augmentation.affine import affine, draw_angles, draw_motions, rotate
from dlbench.training.augmentation.colour import (
    BRIGHTNESS,
    CONTRAST,
    ONE,
    ORDERS,
    SATURATION,
    adjust,
    colour,
    draw_adjustments,
)
from dlbench.training.augmentation.cutout import cutout, draw_centres, erase
from dlbench.training.augmentation.flip import draw_chosen, flip, mirror
from dlbench.training.augmentation.noise import draw_normal, noise
from dlbench.training.augmentation.translation import crop, draw_offsets, draw_shifts, shift, translate

Image = NDArray[np.uint8]
Operation = Callable[..., jax.Array]
GREY, ODD, COLOUR = SHAPES = [(28, 28, 1), (27, 13, 1), (32, 20, 3)]
ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "augmentation.md"
KEY = jax.random.key(0)
COUNT = 8
#: Two values of each argument that changes with the lane.
VALUES = {
    "degrees": (5.0, 170.0),
    "padding": (1.0, 6.0),
    "fraction": (0.05, 0.4),
    "probability": (0.2, 0.9),
    "brightness": (0.1, 1.5),
    "contrast": (0.9, 0.0),
    "saturation": (0.3, 0.7),
    "size": (3.0, 10.0),
    "fill": (0.0, 128.0),
    "std": (2.0, 60.0),
}
OPERATIONS = [name for name in TRANSFORMS.built_in if name != "standard"]
WITH_ARGUMENTS = [name for name in OPERATIONS if TRANSFORMS.built_in[name].signature.dynamic]


def random_images(count: int, shape: tuple[int, ...], seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(1, 256, (count, *shape), dtype=np.uint8)


@functools.cache
def compiled(operation: Operation) -> Operation:
    return jax.jit(operation)


def applied(operation: Operation, *given: Any, **arguments: Any) -> NDArray[Any]:
    """What an operation returns under ``jit``, its arguments by name traced: one program for all their values."""
    traced = {name: np.float32(value) for name, value in arguments.items()}
    return np.asarray(compiled(operation)(*given, **traced))


def defaults_of(name: str) -> dict[str, Any]:
    declared = TRANSFORMS.built_in[name].signature.arguments
    return {argument: declared[argument] for argument in declared if argument not in ("images", "key")}


def assert_uniform(values: NDArray[Any], shares: dict[int, float]) -> None:
    """The values occur as often as expected: chi-square, p > 0.001."""
    counts = [np.sum(values == value) for value in shares]
    assert sum(counts) == values.size
    expected = np.array(list(shares.values())) * values.size
    assert stats.chisquare(counts, expected).pvalue > 0.001, counts


def assert_independent(*streams: NDArray[Any]) -> None:
    """No two correlate more than chance explains in 4,000 images."""
    correlations = np.corrcoef(np.stack([np.ravel(stream)[:4000] for stream in streams]))
    assert np.abs(correlations - np.eye(len(streams))).max() < 0.08


# What holds for every operation


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_image_draws_values_of_its_own(name: str, shape: tuple[int, ...]) -> None:
    operation, arguments = TRANSFORMS.load(name), defaults_of(name)
    images = np.repeat(random_images(1, shape), COUNT, axis=0)
    ours = applied(operation, images, KEY, **arguments)
    assert ours.dtype == np.uint8
    assert ours.shape == images.shape
    different = len(np.unique(ours, axis=0))
    assert different == 2 if name == "flip" else different > COUNT / 2
    np.testing.assert_array_equal(ours, applied(operation, images, KEY, **arguments))
    assert (ours != applied(operation, images, jax.random.key(1), **arguments)).any()


@pytest.mark.parametrize("shape", [ODD, COLOUR], ids=str)
@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_lanes_have_arguments_of_their_own(name: str, shape: tuple[int, ...]) -> None:
    """One program under ``vmap``: the pixels of a lane are those of its images and arguments alone."""
    operation = TRANSFORMS.load(name)
    lanes = np.stack([random_images(COUNT, shape, seed) for seed in (1, 2)])
    keys = jax.random.split(KEY)
    arguments = {argument: np.array(VALUES[argument], np.float32) for argument in defaults_of(name)}
    together = jax.jit(jax.vmap(lambda images, key, given: operation(images, key, **given)))
    ours = np.asarray(together(lanes, keys, arguments))
    for lane in range(2):
        own = {argument: values[lane] for argument, values in arguments.items()}
        np.testing.assert_array_equal(ours[lane], applied(operation, lanes[lane], keys[lane], **own))


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_arguments_may_be_literals(name: str) -> None:
    """Written out, they give the pixels that they give as arrays."""
    operation, images = TRANSFORMS.load(name), random_images(COUNT, COLOUR)
    literals = {
        argument: type(default)(VALUES[argument][1]) for argument, default in defaults_of(name).items()
    }
    written_out = jax.jit(functools.partial(operation, **literals))(images, KEY)
    np.testing.assert_array_equal(written_out, applied(operation, images, KEY, **literals))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_argument_is_dynamic_and_has_a_range(name: str) -> None:
    declared, arguments = TRANSFORMS.built_in[name].signature, defaults_of(name)
    assert set(declared.dynamic) == set(declared.ranges) == set(arguments)
    for argument, interval in declared.ranges.items():
        default = arguments[argument]
        assert isinstance(default, int | float)
        assert ranges.contains(interval, default)


@pytest.mark.parametrize("name", [name for name in WITH_ARGUMENTS if name != "cutout"])
def test_the_least_of_every_range_changes_nothing(name: str) -> None:
    images = random_images(COUNT, COLOUR)
    known = TRANSFORMS.built_in[name].signature.ranges
    least = {argument: ranges.bounds(interval)[1] for argument, interval in known.items()}
    np.testing.assert_array_equal(applied(TRANSFORMS.load(name), images, KEY, **least), images)


def test_standard_changes_nothing() -> None:
    images = jnp.asarray(random_images(4, COLOUR))
    assert TRANSFORMS.load("standard")(images, KEY) is images


# Rotation


def moved(images: Image, angles: Any, shifts: Any) -> Image:
    return applied(affine, images, np.asarray(angles, np.float32), np.asarray(shifts, np.float32))


def torchvision_affine(
    image: Image, degrees: float, right: float, down: float
) -> tuple[Image, NDArray[np.bool_]]:
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
@pytest.mark.parametrize(("largest", "furthest"), [(30, 3), (180, 0)])
def test_rotations_and_shifts_are_torchvisions(shape: tuple[int, ...], largest: float, furthest: int) -> None:
    generator = np.random.default_rng(1)
    images = random_images(6, shape)
    degrees = generator.uniform(-largest, largest, 6)
    shifts = generator.integers(-furthest, furthest + 1, (6, 2))
    ours = moved(images, np.deg2rad(-degrees), shifts)  # ours turn counter-clockwise
    for image, one, angle, (down, right) in zip(images, ours, degrees, shifts, strict=True):
        expected, close = torchvision_affine(image, angle, right, down)
        assert close.mean() < 0.01
        np.testing.assert_array_equal(one[~close], expected[~close])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_angle_and_no_shift_change_nothing(shape: tuple[int, ...]) -> None:
    images = random_images(6, shape)
    np.testing.assert_array_equal(moved(images, np.zeros(6), np.zeros((6, 2))), images)


@pytest.mark.parametrize("shape", [GREY, (27, 27, 3)], ids=str)
def test_quarter_turns_are_counter_clockwise(shape: tuple[int, ...]) -> None:
    images = random_images(6, shape)
    turns = [1, 2, 3, -1, -2, 4]
    ours = moved(images, [turn * np.pi / 2 for turn in turns], np.zeros((6, 2)))
    for image, one, turn in zip(images, ours, turns, strict=True):
        np.testing.assert_array_equal(one, np.rot90(image, turn))


@pytest.mark.parametrize("drawn", [draw_motions(KEY, (4000, 28, 28, 1))[0], draw_angles(KEY, 4000, 30.0)])
def test_angles_are_uniform(drawn: jax.Array) -> None:
    degrees = np.rad2deg(drawn)
    assert np.abs(degrees).max() <= 30.001
    assert stats.kstest(degrees, stats.uniform(-30, 60).cdf).pvalue > 0.001


def test_rotate_and_augmented_apply_what_they_draw() -> None:
    images = random_images(COUNT, GREY)
    angles = jax.jit(draw_angles, static_argnums=1)(KEY, COUNT, 15.0)
    np.testing.assert_array_equal(
        applied(rotate, images, KEY, degrees=15.0), moved(images, angles, np.zeros((COUNT, 2)))
    )
    angles, shifts = draw_motions(KEY, images.shape)
    np.testing.assert_array_equal(applied(augment, images, KEY), moved(images, angles, shifts))


# Shifts and crops


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shifts_fill_with_zeros(shape: tuple[int, ...]) -> None:
    images = random_images(6, shape)
    shifts = np.array([(0, 1), (2, 0), (-3, 2), (1, -1), (-1, -3), (100, 0)])
    ours = applied(translate, images, shifts)
    np.testing.assert_array_equal(ours, moved(images, np.zeros(6), shifts))
    height, width, _ = shape
    for image, one, (down, right) in zip(images, ours, shifts, strict=True):
        expected = np.zeros_like(image)
        for i in range(height):
            for j in range(width):
                if 0 <= i - down < height and 0 <= j - right < width:
                    expected[i, j] = image[i - down, j - right]
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("padding", [1, 4, 40])
def test_crops_are_torchvisions(shape: tuple[int, ...], padding: int) -> None:
    """``RandomCrop.get_params`` and ``crop`` after ``pad``: the upper left corner is drawn from 0 to 2 * padding."""
    images = random_images(COUNT, shape)
    corners = padding - np.asarray(draw_offsets(KEY, COUNT, padding))
    ours = applied(crop, images, KEY, padding=padding)
    height, width, _ = shape
    for image, one, (i, j) in zip(images, ours, corners, strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        np.testing.assert_array_equal(one, padded[i : i + height, j : j + width])


@pytest.mark.parametrize("padding", [1, 4])
def test_every_place_of_a_crop_is_equally_likely(padding: int) -> None:
    places = range(-padding, padding + 1)
    offsets = np.asarray(draw_offsets(KEY, 4000, padding))
    assert_uniform(offsets, {place: 1 / len(places) for place in places})
    assert_independent(offsets[:, 0], offsets[:, 1], offsets)


@pytest.mark.parametrize(
    "draw", [lambda shape: draw_motions(KEY, shape)[1], lambda shape: draw_shifts(KEY, shape, 0.1)]
)
def test_shifts_are_whole_pixels_up_to_a_tenth(draw: Callable[[tuple[int, ...]], jax.Array]) -> None:
    shifts = np.asarray(draw((4000, 20, 40, 1)))
    # As torchvision has it, round(U(-2, 2)): the outermost values are half as likely as the others.
    assert_uniform(shifts[:, 0], {-2: 1 / 8, -1: 1 / 4, 0: 1 / 4, 1: 1 / 4, 2: 1 / 8})
    assert_uniform(shifts[:, 1], {place: 1 / 16 if abs(place) == 4 else 1 / 8 for place in range(-4, 5)})
    assert_independent(shifts[:, 0], shifts[:, 1], shifts)


def test_angles_and_shifts_are_independent() -> None:
    angles, shifts = draw_motions(KEY, (4000, 20, 40, 1))
    assert_independent(np.asarray(angles), np.asarray(shifts)[:, 0], np.asarray(shifts))


def test_shift_applies_what_it_draws() -> None:
    images = random_images(COUNT, COLOUR)
    shifts = draw_shifts(KEY, images.shape, 0.3)
    np.testing.assert_array_equal(
        applied(shift, images, KEY, fraction=0.3), applied(translate, images, shifts)
    )


# Flip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_flips_mirror_left_to_right(shape: tuple[int, ...]) -> None:
    images = random_images(COUNT, shape)
    chosen = np.array([True, False, True, True, False, False, True, False])
    expected = np.where(chosen[:, None, None, None], images[:, :, ::-1], images)
    np.testing.assert_array_equal(applied(mirror, images, chosen), expected)
    drawn = draw_chosen(KEY, COUNT, 0.5)
    np.testing.assert_array_equal(applied(flip, images, KEY, probability=0.5), applied(mirror, images, drawn))


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_images_are_mirrored_with_the_probability(probability: float) -> None:
    chosen = int(np.sum(draw_chosen(KEY, 4000, probability)))
    assert stats.binomtest(chosen, 4000, probability).pvalue > 0.001


# Colour


def blend(image: NDArray[Any], other: Any, factor: float) -> NDArray[np.float64]:
    """``torchvision.transforms.functional._blend`` before it is rounded down."""
    return np.clip(factor * image.astype(float) + (1 - factor) * other, 0, 255)


def luma(image: Image) -> NDArray[np.float64]:
    """``rgb_to_grayscale``, rounded down as on uint8; images of one channel are as they are."""
    if image.shape[-1] == 1:
        return image.astype(float)
    return np.floor(image @ np.array([0.2989, 0.587, 0.114]) + 1e-9)[..., None]


#: ``adjust_brightness``, ``adjust_contrast`` and ``adjust_saturation`` on uint8, before they are rounded down.
ADJUSTMENTS = {
    BRIGHTNESS: lambda image, factor: blend(image, 0, factor),
    CONTRAST: lambda image, factor: blend(image, luma(image).mean(), factor),
    SATURATION: lambda image, factor: (
        image.astype(float) if image.shape[-1] == 1 else blend(image, luma(image), factor)
    ),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("which", ADJUSTMENTS)
def test_adjustments_are_torchvisions(shape: tuple[int, ...], which: int) -> None:
    """Equal pixels, but for those so near a whole number that the rounding of the mean decides."""
    factors = [0.0, 0.25, 0.6, 1.0, 1.3, 2.0, 11.0]
    images = random_images(len(factors), shape)
    images[0, :2] = 0
    given = np.full((len(factors), 3), ONE, np.int32)
    given[:, which] = np.round(np.array(factors) * ONE)
    ours = applied(adjust, images, given, np.tile(np.arange(3), (len(factors), 1)))
    for image, one, factor in zip(images, ours, given[:, which] / ONE, strict=True):
        exact = ADJUSTMENTS[which](image, factor)
        close = np.abs(exact - np.round(exact)) < 1e-3 * (which == CONTRAST)
        assert np.mean(close & (exact > 0) & (exact < 255)) < 0.01 or factor == 1
        np.testing.assert_array_equal(one[~close], np.floor(exact + 1e-9)[~close])
        assert np.abs(one - exact)[close].max(initial=0) <= 1.001


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_adjustments_follow_their_order(shape: tuple[int, ...]) -> None:
    images = random_images(6, shape)
    factors = np.round(np.random.default_rng(1).uniform(0.5, 1.5, (6, 3)) * ONE).astype(np.int32)
    ours = applied(adjust, images, factors, np.array(ORDERS))
    for image, one, given, order in zip(images, ours, factors, ORDERS, strict=True):
        expected = image[None]
        for which in order:
            alone = np.where(np.arange(3) == which, given, ONE)[None].astype(np.int32)
            expected = applied(adjust, expected, alone, np.array([[0, 1, 2]]))
        np.testing.assert_array_equal(one, expected[0])
    different = np.unique(applied(adjust, images[[0] * 6], factors[[0] * 6], np.array(ORDERS)), axis=0)
    assert len(different) > (2 if shape == COLOUR else 1)


def test_grey_images_have_no_saturation() -> None:
    images = random_images(COUNT, GREY)
    ours = applied(colour, images, KEY, brightness=0.0, contrast=0.0, saturation=1.0)
    np.testing.assert_array_equal(ours, images)


def test_factors_are_uniform_and_orders_equally_likely() -> None:
    factors, order = map(np.asarray, draw_adjustments(KEY, 4000, 0.4, 0.2, 1.5))
    for drawn, low, high in zip(factors.T / ONE, (0.6, 0.8, 0.0), (1.4, 1.2, 2.5), strict=True):
        assert stats.kstest(drawn, stats.uniform(low, high - low).cdf).pvalue > 0.001
    numbers = np.array([ORDERS.index(tuple(each)) for each in order.tolist()])
    assert_uniform(numbers, dict.fromkeys(range(6), 1 / 6))
    assert_independent(*factors.T, numbers)


def test_colour_applies_what_it_draws() -> None:
    images = random_images(COUNT, COLOUR)
    drawn = draw_adjustments(KEY, COUNT, 0.4, 0.4, 0.4)
    np.testing.assert_array_equal(
        applied(colour, images, KEY, brightness=0.4, contrast=0.4, saturation=0.4),
        applied(adjust, images, *drawn),
    )


# Cutout


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [2, 8, 100])
def test_cutout_is_the_authors(shape: tuple[int, ...], size: int) -> None:
    """``Cutout.__call__`` of the code published with the paper, for one hole of even size."""
    images = random_images(COUNT, shape)
    centres = np.asarray(draw_centres(KEY, images.shape))
    ours = applied(cutout, images, KEY, size=size, fill=0)
    height, width, _ = shape
    for image, one, (y, x) in zip(images, ours, centres, strict=True):
        mask = np.ones((height, width), np.uint8)
        y1, y2 = np.clip(y - size // 2, 0, height), np.clip(y + size // 2, 0, height)
        x1, x2 = np.clip(x - size // 2, 0, width), np.clip(x + size // 2, 0, width)
        mask[y1:y2, x1:x2] = 0
        np.testing.assert_array_equal(one, image * mask[..., None])


def test_squares_of_odd_size_lie_evenly_about_their_centre() -> None:
    images = random_images(1, COLOUR)
    expected = images.copy()
    expected[0, 8:13, 3:8] = 200
    np.testing.assert_array_equal(applied(erase, images, np.array([[10, 5]]), 5, 200), expected)
    np.testing.assert_array_equal(applied(erase, images, np.array([[10, 5]]), 0, 200), images)


def test_every_pixel_is_equally_likely_to_be_the_centre() -> None:
    centres = np.asarray(draw_centres(KEY, (4000, 5, 8, 1)))
    assert_uniform(centres[:, 0], dict.fromkeys(range(5), 1 / 5))
    assert_uniform(centres[:, 1], dict.fromkeys(range(8), 1 / 8))
    assert_independent(centres[:, 0], centres[:, 1], centres)


# Noise


@pytest.mark.parametrize("shape", [*SHAPES, (3, 5, 1)], ids=str)
def test_noise_is_added_rounded_and_clipped(shape: tuple[int, ...]) -> None:
    images = random_images(COUNT, shape)
    exact = images + 25.0 * np.asarray(draw_normal(KEY, images.shape), float)
    ours = applied(noise, images, KEY, std=25.0)
    close = np.abs(exact % 1 - 0.5) < 1e-4
    assert close.mean() < 0.01
    np.testing.assert_array_equal(ours[~close], np.clip(np.rint(exact), 0, 255)[~close])
    assert {ours.min(), ours.max()} == {0, 255} or shape == (3, 5, 1)


def test_noise_is_normal() -> None:
    drawn = np.asarray(draw_normal(KEY, (20, 33, 21, 1))).ravel()
    assert stats.kstest(drawn, stats.norm.cdf).pvalue > 0.001
    assert stats.kstest(np.square(drawn), stats.chi2(1).cdf).pvalue > 0.001
    assert_independent(drawn[::2], drawn[1::2])
    assert 3.3 < np.abs(drawn).max() < 4.4


def test_noise_has_the_standard_deviation() -> None:
    images = np.full((20, 32, 32, 1), 128, np.uint8)
    spread = applied(noise, images, KEY, std=20.0).std()
    assert spread == pytest.approx(np.sqrt(400 + 1 / 12), rel=0.02)


# Documentation


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_documentation_has_defaults_and_ranges(name: str) -> None:
    section = DOCUMENT.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| ([^|]*) \|", section, flags=re.MULTILINE)
    bounds = {}
    for argument, interval in TRANSFORMS.built_in[name].signature.ranges.items():
        _, least, largest, _ = ranges.bounds(interval)
        bounds[argument] = f"{least:g} to {largest:g}" if largest < np.inf else f"at least {least:g}"
    defaults = {argument: f"{default:g}" for argument, default in defaults_of(name).items()}
    assert rows == [(argument, defaults[argument], bounds[argument]) for argument in bounds]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_pictures_are_what_the_operations_return(name: str) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "augmentation_pictures.py"))
    with Pictures.open(ROOT / "docs" / "augmentation" / f"{name}.png") as stored:
        np.testing.assert_array_equal(np.asarray(stored), script["picture"](name).squeeze())
