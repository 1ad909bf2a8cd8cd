"""Picture files as one array in a file, decoded by several threads: Pillow lets others run while it decodes."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dlbench import files
from dlbench.data import progress
from dlbench.data.mapped import BLOCK_BYTES, blocks, in_file
from dlbench.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
"""The endings of files that are taken for pictures, as in torchvision's ``ImageFolder``."""

#: What each colour is called in Pillow.
_MODES = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}
#: What other modes of Pillow become if no colour is asked for; those of 16 bits are not here.
_NATURAL = {"1": "L", "L": "L", "LA": "RGBA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}
_COLOUR = ("P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_PER_TASK = 256
Result = TypeVar("Result")


def decode(paths: Sequence[Path], resize: int, colour: str, words: str) -> NDArray[np.uint8]:
    """Decode pictures, in their order.

    Pictures are turned as their EXIF tag says. Where they differ in colour and none is asked for, all become like the
    richest of them: grey, then RGB, then RGBA.

    Args:
        paths: the files, one or more.
        resize: the side of the square that the middle of every picture is brought to (bilinear, with antialiasing); 0
            leaves them as they are.
        colour: "auto", "grey", "rgb" or "rgba".
        words: what is done, for the report of progress.

    Returns:
        uint8 [N, H, W, C], mapped from a temporary file.

    Raises:
        OSError: the cache folder cannot be written.
        DataError: a file cannot be decoded, or pictures are of different sizes and ``resize`` is 0.
    """
    first = _decoded(paths[0], resize, colour)
    size = max(1, min(_PER_TASK, BLOCK_BYTES // first.nbytes))

    def block(start: int) -> NDArray[np.uint8]:
        chosen = paths[start : start + size]
        pictures = [_decoded(path, resize, colour) for path in chosen]
        for path, picture in zip(chosen, pictures, strict=True):
            if picture.shape[:2] != first.shape[:2]:
                raise DataError(
                    f"{path} has {_size(picture)} pixels and {paths[0]} has {_size(first)}; all pictures of a data set "
                    "need one size",
                    remedy="resize=32 brings them to 32x32",
                )
        channels = max(picture.shape[2] for picture in pictures)
        return np.stack([_widened(picture, channels) for picture in pictures])

    def as_rich_as_those_before() -> Iterator[NDArray[np.uint8]]:
        channels, done = 1, 0
        for part in _in_order(block, range(0, len(paths), size)):
            channels, done = max(channels, part.shape[3]), done + len(part)
            yield _widened(part, channels)
            tell(done, len(paths))

    images: NDArray[np.uint8] | None = None
    with progress.reported(words) as tell:
        for channels, parts in itertools.groupby(as_rich_as_those_before(), lambda part: part.shape[3]):
            before = () if images is None else (_widened(each, channels) for each in blocks(images))
            images = in_file(itertools.chain(before, parts))
    assert images is not None
    return images


def undecodable(paths: Sequence[Path], colour: str) -> dict[Path, str]:
    """Why pictures cannot be decoded, by path; without those that can.

    Args:
        paths: the files.
        colour: as in :func:`decode`.
    """

    def reason(place: int) -> str:
        try:
            _decoded(paths[place], 0, colour)
        except DataError as error:
            return str(error.value)
        return ""

    found = zip(paths, _in_order(reason, range(len(paths))), strict=True)
    return {path: words for path, words in found if words}


def _in_order(work: Callable[[int], Result], items: Iterable[int]) -> Iterator[Result]:
    """What a function returns for each item, in order; threads are a few items ahead of whoever takes the results."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(cores, 16)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for task in waiting:
                task.cancel()


def _decoded(path: Path, resize: int, colour: str) -> NDArray[np.uint8]:
    """One picture as uint8 [H, W, C]."""
    try:
        with files.opened(path) as file, Image.open(file) as picture:
            mode = _MODES.get(colour) or _natural(picture)
            turned = ImageOps.exif_transpose(picture)
            if turned.mode != mode:
                turned = turned.convert(mode)
            if resize:
                turned = ImageOps.fit(turned, (resize, resize), Image.Resampling.BILINEAR)
            array = np.asarray(turned)
    except Exception as error:  # a damaged file can raise anything
        unknown = isinstance(error, UnidentifiedImageError)
        words = f"cannot be decoded ({'it is in no format that Pillow reads' if unknown else error})"
        raise DataError(
            f"{path}: {words}",
            value=words,
            remedy="replace the file, or remove it from the folder",
        ) from None
    return array if array.ndim == 3 else array[..., np.newaxis]


def _natural(picture: Image.Image) -> str:
    if "transparency" in picture.info:
        return "RGBA"
    if picture.mode in _COLOUR:
        return "RGB"
    if picture.mode not in _NATURAL:
        raise ValueError(f"its pixels are of Pillow's mode {picture.mode}; convert it to 8 bits per channel")
    return _NATURAL[picture.mode]


def _widened(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Images [..., H, W, C] with more channels: grey repeated, and opaque."""
    if images.shape[-1] == channels:
        return images
    colours = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    if channels == 3:
        return colours
    return np.concatenate([colours, np.full((*colours.shape[:-1], 1), 255, np.uint8)], axis=-1)


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
