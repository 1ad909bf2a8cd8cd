"""Data sets of the user: folders of pictures, files of arrays, functions; and the grammar in which they are named."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dlbench
from dlbench import data
from dlbench.data import decoding, folder, progress
from dlbench.errors import DataError, InputError, UnknownNameError
from dlbench.spec import config, resolution
from dlbench.spec.designs import expand
from dlbench.spec.registry import DATASETS
from dlbench.studies import planning

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def some(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, shape, np.uint8)


def put(path: Path, pixels: np.ndarray[Any, Any], **options: Any) -> np.ndarray[Any, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def pictures(place: Path, *names: str, classes: str = "ba", shape: tuple[int, ...] = (6, 5, 3)) -> list[Any]:
    """Write PNG files ``place/CLASS/NAME.png`` and return their pixels in the order in which they are read."""
    return [put(place / kind / f"{name}.png", some(*shape)) for kind in sorted(classes) for name in names]


# Folders of pictures.


def test_a_folder_with_halves_is_read_as_imagefolder_reads_it(tmp_path: Path) -> None:
    train = pictures(tmp_path / "pics" / "train", "1", "10", "2")
    test = pictures(tmp_path / "pics" / "test", "1")
    (tmp_path / "pics" / "train" / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "pics" / "train" / "a" / "._1.png").write_text("what macOS writes beside a file")
    (tmp_path / "pics" / "train" / ".hidden").mkdir()
    found = data.load("folder:pics")
    np.testing.assert_array_equal(found.train_images, train)
    np.testing.assert_array_equal(found.test_images, test)
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.class_names == ("a", "b")
    assert (found.name, found.source) == ("pics", "pictures in pics")


def test_validation_pictures_join_the_training_half_or_are_the_test_half(tmp_path: Path) -> None:
    pictures(tmp_path / "x" / "train", "1", "2")
    val = pictures(tmp_path / "x" / "val", "1")
    found = data.load("folder:x")
    np.testing.assert_array_equal(found.test_images, val)
    assert "the validation images are the test half" in found.source
    pictures(tmp_path / "x" / "test", "1")
    found = data.load("folder:x")
    assert found.train_labels.tolist() == [0, 0, 1, 1, 0, 1]
    np.testing.assert_array_equal(found.train_images[4:], val)
    assert "the validation images belong to the training half" in found.source


def test_a_test_half_is_drawn_by_class_and_the_same_each_time(tmp_path: Path) -> None:
    pixels = pictures(tmp_path / "x", *"0123456789", classes="ab")
    pixels += pictures(tmp_path / "x", *"012", classes="c")
    found = data.load("folder:x")
    assert np.bincount(found.test_labels).tolist() == [2, 2, 1]
    halves = [*found.train_images, *found.test_images]
    assert {each.tobytes() for each in halves} == {each.tobytes() for each in pixels}
    drawn = [
        next(n for n, each in enumerate(pixels) if np.array_equal(each, one)) for one in found.test_images
    ]
    assert drawn == [2, 9, 14, 17, 21], "stored studies refer to it: it must not change"
    assert "5 images are drawn as the test half" in found.source
    assert len(data.load('folder(path="x", test_fraction=0.5)').test_labels) == 12


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "PNG"])
def test_the_formats_that_people_have(tmp_path: Path, suffix: str) -> None:
    for name in ("1", "2"):
        put(tmp_path / "x" / "a" / f"{name}.{suffix}", some(8, 8, 3))
    assert data.load("folder:x").image_shape == (8, 8, 3)


MODES = [
    (("L",), 1),
    (("1",), 1),
    (("P",), 3),
    (("RGB",), 3),
    (("LA",), 4),
    (("RGBA",), 4),
    (("CMYK",), 3),
    (("L", "RGB"), 3),
    (("L", "RGBA", "RGB"), 4),
]


@pytest.mark.parametrize(("modes", "channels"), MODES)
def test_pictures_become_like_the_richest_of_them(
    tmp_path: Path, modes: tuple[str, ...], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_PER_TASK", 2)  # so that tasks have pictures of different colours
    (tmp_path / "a").mkdir()
    given = [Image.fromarray(some(4, 4, 4), "RGBA").convert(mode) for mode in modes for _ in range(3)]
    paths = [tmp_path / "a" / f"{n}.tif" for n in range(len(given))]
    for path, picture in zip(paths, given, strict=True):
        picture.save(path)
    found = decoding.decode(paths, 0, "auto", "")
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    expected = [np.asarray(picture.convert(mode)).reshape(4, 4, channels) for picture in given]
    np.testing.assert_array_equal(found, expected)
    assert decoding.decode(paths, 0, "grey", "").shape[3] == 1
    assert decoding.decode(paths, 0, "rgb", "").shape[3] == 3


def test_a_transparent_colour_of_a_palette_counts_as_alpha(tmp_path: Path) -> None:
    picture = Image.fromarray(some(4, 4, 3)).convert("P")
    picture.save(tmp_path / "1.png", transparency=0)
    (found,) = decoding.decode([tmp_path / "1.png"], 0, "auto", "")
    np.testing.assert_array_equal(found[..., 3] == 0, np.asarray(picture) == 0)


def test_resize_takes_the_middle_square(tmp_path: Path) -> None:
    """As torchvision's Resize and CenterCrop do."""
    wide, high = put(tmp_path / "1.png", some(8, 16, 3)), put(tmp_path / "2.png", some(24, 12, 3))
    found = decoding.decode([tmp_path / "1.png", tmp_path / "2.png"], 4, "auto", "")
    shrunk = [
        np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        for pixels, size in ((wide, (8, 4)), (high, (4, 8)))
    ]
    np.testing.assert_allclose(found, [shrunk[0][:, 2:6], shrunk[1][2:6]], atol=1)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    pixels = put(tmp_path / "1.png", some(4, 6, 3), exif=exif)
    (found,) = decoding.decode([tmp_path / "1.png"], 0, "auto", "")
    np.testing.assert_array_equal(found, np.rot90(pixels, -1))


def _none(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))


def _flat(place: Path) -> None:
    for kind in "ab":
        for path in (place / kind).iterdir():
            path.rename(place / f"{kind}{path.name}")
        (place / kind).rmdir()


def _halves_and_more(place: Path) -> None:
    pictures(place / "train", "1")
    pictures(place / "test", "1")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_none, "there is no folder x; correct the path"),
        (_flat, "x has no folders; make a folder in it for each class"),
        (_halves_and_more, "x has the folder a beside train"),
        (lambda place: (place / "c").mkdir(), "x/c has no pictures; files that end in .png, .jpg"),
        (lambda place: put(place / "c" / "1.png", some(6, 5, 3)), "class 'c' has one image, x/c/1.png"),
        (lambda place: put(place / "a" / "3.png", some(5, 6, 3)), "x/a/3.png has 6x5 pixels.*resize=32"),
        (
            lambda place: (place / "a" / "2.png").write_bytes(b"GIF89a"),
            "x/a/2.png: cannot be decoded.*replace",
        ),
        (lambda place: os.truncate(place / "a" / "2.png", 70), "x/a/2.png: cannot be decoded.*remove it"),
        (lambda place: put(place / "a" / "0.png", np.ones((6, 5), np.uint16)), "x/a/0.png: cannot.* 8 bits"),
    ],
)
def test_folders_that_are_no_data_set_are_refused(tmp_path: Path, damage: Any, words: str) -> None:
    pictures(tmp_path / "x", "1", "2")
    damage(tmp_path / "x")
    with pytest.raises(DataError, match=words):
        data.load("folder:x")


def test_a_class_without_training_pictures_is_named(tmp_path: Path) -> None:
    pictures(tmp_path / "x" / "train", "1", "2")
    pictures(tmp_path / "x" / "test", "1", classes="abc")
    with pytest.raises(DataError, match=r"of the 3 classes, these do not: c; add training images"):
        data.load("folder:x")


def test_train_can_be_a_class(tmp_path: Path) -> None:
    for kind in ("bus", "train"):
        pictures(tmp_path / "x", "1", "2", classes=[kind])  # type: ignore[arg-type]
    assert data.load("folder:x").class_names == ("bus", "train")


def test_pictures_are_decoded_once_and_again_when_one_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "x", "1", "2")
    first = data.load("folder:x")
    with monkeypatch.context() as patched:
        patched.setattr(folder, "decode", None)
        assert data.load("folder:x") == first
        assert isinstance(data.load("folder:x").train_images, np.memmap)
        assert data.load(first.reference, verify=True) == first
    put(tmp_path / "x" / "a" / "1.png", some(6, 5, 3))
    second = data.load("folder:x")
    assert second.digest != first.digest
    assert data.load(first.reference) == first


# Metadata of pictures.


def read_slices(name: str) -> dict[str, list[str]]:
    return {key: ids.tolist() for key, ids in data.load(name).slices.items()}


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, rows))


def test_metadata_of_test_pictures_become_slices(tmp_path: Path) -> None:
    pictures(tmp_path / "x" / "train", "1", "2")
    pictures(tmp_path / "x" / "test", "1", "2")
    plain = data.load("folder:x")
    assert plain.slices == {}
    (tmp_path / "x" / "metadata.csv").write_text(
        "file_name,writer,light,split,text,\ntest/b/1.png,bo,,test,one,0\ntest/a/2.png,al,dim,test,two,1\n"
        "test/b/2.png, al ,bright,test,three,0\ntest/a/1.png,bo,dim,test,four,1\nno/such.png,x,x,x,x,4\n"
    )
    expected = {"writer": ["bo", "al", "bo", "al"], "light": ["dim", "dim", "missing", "bright"]}
    assert read_slices("folder:x") == expected
    assert data.load("folder:x").reference == plain.reference
    nearer = [{"file_name": f"{kind}/{n}.png", "pen": n, "box": [0, n]} for kind in "ab" for n in (1, 2)]
    (tmp_path / "x" / "test" / "metadata.jsonl").write_text(lines(*nearer))
    assert read_slices("folder:x") == {"pen": ["1", "2", "1", "2"]}
    (tmp_path / "x" / "test" / "a" / "metadata.jsonl").write_text(
        lines({"file_name": "1.png", "pen": None}, {"file_name": "./2.png", "ink": True})
    )
    assert read_slices("folder:x") == {
        "pen": ["missing", "missing", "1", "2"],
        "ink": ["missing", "True", "missing", "missing"],
    }


def test_metadata_of_a_test_half_that_is_drawn(tmp_path: Path) -> None:
    pixels = pictures(tmp_path / "x", *"0123456789")
    rows = [{"file_name": f"{kind}/{n}.png", "number": n % 3} for kind in "ab" for n in range(10)]
    (tmp_path / "x" / "metadata.jsonl").write_text(lines(*rows))
    found = data.load("folder:x")
    of = {each.tobytes(): str(row["number"]) for each, row in zip(pixels, rows, strict=True)}
    assert found.slices["number"].tolist() == [of[each.tobytes()] for each in found.test_images]
    assert len(found.slices["number"]) == 4


def test_metadata_in_a_parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "x" / "train", "1")
    pictures(tmp_path / "x" / "test", "1", "2")
    file = tmp_path / "x" / "metadata.parquet"
    file.write_bytes(b"no parquet")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(InputError, match=r"metadata\.parquet needs pyarrow; run pip install pyarrow"):
            data.load("folder:x")
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"metadata.parquet cannot be read"):
        data.load("folder:x")
    names = [f"test/{name}.png" for name in ("b/1", "a/1", "b/2", "a/2")]
    columns = {"file_name": names, "age": [7, None, 7, 8], "image": [b"1", b"2"] * 2}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    assert read_slices("folder:x") == {"age": ["missing", "8", "7", "7"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "file_name,w\ntest/a/1.png,x\n",
            "b/1.png has no row in a file of metadata, as 1 of 2 test pictures",
        ),
        (
            "name,w\ntest/a/1.png,x\n",
            "row 1 of x/metadata.csv has no file_name; name the picture of each row",
        ),
        ("file_name,w\na,x\n./a,y\n", "row 2 of x/metadata.csv is about ./a again"),
        ("file_name,w\na,x\nb,y,z\n", "cannot be read: row 2 has more cells than there are columns"),
        ("file_name\n\ud800", "x/metadata.csv cannot be read"),
    ],
)
def test_metadata_that_are_in_doubt_are_refused(tmp_path: Path, text: str, words: str) -> None:
    pictures(tmp_path / "x" / "train", "1")
    pictures(tmp_path / "x" / "test", "1")
    (tmp_path / "x" / "metadata.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=words):
        data.load("folder:x")
    (tmp_path / "x" / "metadata.jsonl").write_text("")
    with pytest.raises(DataError, match=r"x has metadata\.csv and metadata\.jsonl; remove one of them"):
        data.load("folder:x")


def test_the_digest_is_of_the_arrays_alone(tmp_path: Path) -> None:
    train = pictures(tmp_path / "x" / "train", "1", "2")
    test = pictures(tmp_path / "x" / "test", "1")
    found = data.load("folder:x")
    arrays = data.from_arrays("mine", np.stack(train), [0, 0, 1, 1], np.stack(test), [0, 1])
    assert found.digest == arrays.digest
    (tmp_path / "x").rename(tmp_path / "MNIST")
    moved = data.load("folder:MNIST")
    assert (moved.digest, moved.name) == (found.digest, "MNIST-files"), "a built-in set's name is not taken"
    assert data.load(f"another-name@{found.digest[:12]}").digest == found.digest


def test_progress_is_told_to_whoever_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "x", "1", "2", "3")
    monkeypatch.setattr(decoding, "_PER_TASK", 4)
    said: list[str] = []
    with progress.listening(said.append):
        data.load("folder:x")
    bars = "━" * 16 + "┄" * 8, "━" * 24
    assert said == [f"decoding the pictures of x {bar} {n} of 6" for bar, n in zip(bars, (4, 6), strict=True)]


@pytest.mark.slow
def test_sixty_thousand_pictures_of_cifar10(tmp_path: Path) -> None:
    place = os.environ.get("DLBENCH_PICTURES")
    if not place:
        pytest.skip("set DLBENCH_PICTURES to the folder of CIFAR-10's pictures as JPEG to run this test")
    found = data.load(f"folder:{place}")
    digests = [hashlib.sha256(half).hexdigest()[:8] for half in (found.train_images, found.test_images)]
    assert digests == ["bf3aabd5", "5a6aa818"]


# Files of arrays.

X, Y = some(12, 4, 4), np.arange(12) % 3


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_train": X[:9], "y_train": Y[:9], "x_test": X[9:], "y_test": Y[9:]},
        {
            "train_images": X[:9],
            "train_labels": Y[:9, None],
            "test_images": X[9:],
            "test_labels": Y[9:, None],
        },
        {"train_data": X[:9], "train_targets": Y[:9], "test_data": X[9:], "test_targets": Y[9:]},
        {"X_train": X[:9], "Y_train": Y[:9], "X_test": X[9:], "Y_test": Y[9:], "weights": Y},
        {"trainImages": X[:9], "trainLabels": Y[:9], "testImages": X[9:], "testLabels": Y[9:]},
        {
            **{"train_images": X[:6], "train_labels": Y[:6, None], "val_images": X[6:9]},
            **{"val_labels": Y[6:9, None], "test_images": X[9:], "test_labels": Y[9:, None]},
        },
    ],
    ids=["keras", "images-labels", "torchvision", "capitals", "camels", "medmnist"],
)
def test_npz_files_by_the_names_that_people_use(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    found = data.load("npz:a.npz")
    assert found.digest == data.from_arrays("x", X[:9], Y[:9], X[9:], Y[9:]).digest
    assert found.name == "a"


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("data", "target")])
def test_npz_files_of_one_set_are_split(tmp_path: Path, names: tuple[str, str]) -> None:
    np.savez(tmp_path / "a.npz", **dict(zip(names, (X, np.array(list("abc" * 4))), strict=True)))
    found = data.load("npz:a.npz")
    assert (len(found.train_labels), len(found.test_labels), found.class_names) == (9, 3, ("a", "b", "c"))


def test_npz_files_of_numbers_to_predict_are_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=np.linspace(0, 1, 12))
    found = data.load("npz:a.npz")
    assert (len(found.train_labels), len(found.test_labels)) == (10, 2)
    assert {*found.train_labels, *found.test_labels} == {*np.linspace(0, 1, 12).astype(np.float32)}


def test_npz_files_of_floats_and_channels_first(tmp_path: Path) -> None:
    images = np.moveaxis(some(12, 6, 6, 3), 3, 1)
    np.savez(tmp_path / "a.npz", x=images / 255, y=Y)
    with pytest.raises(DataError, match=r"must be uint8.*value_range='\[0, 1\]' converts them"):
        data.load("npz:a.npz")
    with pytest.raises(DataError, match=r"channels first.*channels_first=True moves them"):
        data.load("npz(path='a.npz', value_range='[0, 1]')")
    found = data.load("npz(path='a.npz', value_range='[0, 1]', channels_first=True)")
    halves = {each.tobytes() for each in (*found.train_images, *found.test_images)}
    assert halves == {each.tobytes() for each in np.ascontiguousarray(images.transpose(0, 2, 3, 1))}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": X, "b": Y}, "must be named as in x_train.*found a, b"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "must be named as in"),
        ({"x_test": X, "y_test": Y}, "must be named as in"),
        ({"x": X, "images": X, "y": Y}, "'images' and 'x' both name the images"),
        ({"x": X, "y": np.array(["a", 1] * 6, object)}, r"a.npz: cannot be read.*y.astype\(str\)"),
        ({"x": X, "y": Y[1:]}, "12 images and 11 labels"),
        ({"x": X[:1], "y": Y[:1]}, "class '0' has one image"),
        ({"x": X.reshape(12, 16), "y": Y}, r"found shape \(9, 16\).*x.reshape\(-1, height, width\)"),
        ({"x": np.full((12, 4, 4), np.nan), "y": Y}, r"train_images are not numbers \(nan\); np.nan_to_num"),
    ],
)
def test_npz_files_that_do_not_say_what_they_hold(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=words):
        data.load("npz:a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x93NUMPY"])
def test_damaged_npz_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a.npz: cannot be read"):
        data.load("npz:a.npz")
    with pytest.raises(DataError, match=r"there is no file b.npz"):
        data.load("npz:b.npz")
    np.save(tmp_path / "c.npy", X)
    with pytest.raises(DataError, match=r"c.npy: cannot be read \(it is not an .npz file\); .*np.savez"):
        data.load("npz:c.npy")


def encode(array: np.ndarray[Any, Any]) -> bytes:
    return (
        struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


@pytest.mark.parametrize("prefix", ["", "emnist-letters-"])
def test_idx_files_of_any_size(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "x").mkdir()
    halves = {"train": (X[:9], Y[:9] + 1), "t10k": (X[9:], Y[9:] + 1)}
    for half, (images, labels) in halves.items():
        (tmp_path / "x" / f"{prefix}{half}-images-idx3-ubyte").write_bytes(encode(images))
        (tmp_path / "x" / f"{prefix}{half}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encode(labels)))
    found = data.load("idx:x")
    assert found.digest == data.from_arrays("x", X[:9], Y[:9], X[9:], Y[9:]).digest
    assert found.class_names == ("1", "2", "3")
    (tmp_path / "x" / f"{prefix}train-images-idx3-ubyte").write_bytes(encode(X[:9])[:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte: 144 bytes must follow"):
        data.load("idx:x")
    with pytest.raises(DataError, match="there is no folder y"):
        data.load("idx:y")


# Functions.

FUNCTIONS = """
import numpy as np
import dlbench

X, Y = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4), np.arange(12) % 3

def halves():
    return (X[:9], Y[:9]), (X[9:], Y[9:])

def four(first=0):
    return X[:9], Y[:9] + first, X[9:], Y[9:] + first

def one():
    return X, Y

def mapping():
    return {"x_train": X[:9], "y_train": Y[:9], "x_test": X[9:], "y_test": Y[9:]}

def made():
    return dlbench.from_arrays("made", X[:9], Y[:9], X[9:], Y[9:])

def nothing():
    pass

def made_with_slices():
    return dlbench.from_arrays("made", *four(), slices={"writer": [*"abc"]})

def raises():
    return 1 / 0

def ragged():
    return [[1], [2, 3]], [0, 1]
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"functions_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_functions_return_arrays_in_the_forms_that_people_use(functions: str) -> None:
    found = [data.load(f"{functions}:{name}") for name in ("halves", "four", "mapping", "made")]
    assert len({each.digest for each in found}) == 1
    assert [each.name for each in found] == ["halves", "four", "mapping", "made"]
    assert data.load(found[0].reference) == found[0]
    assert data.load(f"{functions}:four(first=1)").class_names == ("1", "2", "3")
    assert len(data.load(f"{functions}:one").test_labels) == 3
    assert data.load(f"{functions}:made_with_slices").slices["writer"].tolist() == [*"abc"]
    assert data.load(found[3].reference).slices["writer"].tolist() == [*"abc"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "the function nothing must return a Dataset.*it returned NoneType"),
        ("raises", "the function raises raised ZeroDivisionError"),
        ("ragged", "must be one array.*give all images one shape"),
    ],
)
def test_functions_that_return_no_data_are_refused(functions: str, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        data.load(f"{functions}:{name}")


# Names: the same in flags, YAML and Python; every argument by its path.


def test_a_data_set_is_named_alike_everywhere(tmp_path: Path, functions: str) -> None:
    pictures(tmp_path / "x", "1", "2", "3", shape=(9, 9, 3))
    texts = ["folder:x", 'folder(path="x", resize=8)']
    (tmp_path / "study.yaml").write_text(
        "dataset: ['folder:x', 'folder(path=\"x\", resize=8)']\nval_size: 1\nbatch_size: 1\n"
    )
    by_file = config.read(tmp_path / "study.yaml").grids[0]["dataset"]
    study = expand({"dataset": texts, "val_size": 1, "batch_size": 1})
    assert expand({"dataset": by_file, "val_size": 1, "batch_size": 1}) == study
    assert expand({"dataset": "folder:x", "dataset.resize": [0, 8], "val_size": 1, "batch_size": 1}) == study
    assert [trial.dataset_args for trial in study.trials] == [
        (("path", "x"),),
        (("path", "x"), ("resize", 8)),
    ]
    names = [trial.spec.dataset for trial in resolution.resolve(study, data.info)]
    assert [name.partition("@")[0] for name in names] == ["x", "x-8"]
    assert [data.load(name).image_shape for name in names] == [(9, 9, 3), (8, 8, 3)]
    module = __import__(functions)
    grid = dlbench.grid(dataset=[module.halves, f"{functions}:one"], val_size=1, batch_size=1)
    assert [trial.dataset for trial in grid.trials] == [f"{functions}:halves", f"{functions}:one"]
    names = [trial.spec.dataset for trial in resolution.resolve(grid, data.info)]
    assert [name.partition("@")[0] for name in names] == ["halves", "one"]


def test_a_trial_does_not_depend_on_where_its_pictures_lie(tmp_path: Path) -> None:
    pictures(tmp_path / "one" / "x", "1", "2", "3")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    ids = [
        resolution.resolve(expand({"dataset": f"folder:{place}/x", "batch_size": 1}), data.info)[0].id
        for place in ("one", "two")
    ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("folder:", InputError, "a known name, or of the form"),
        ("folder", InputError, "the dataset folder needs the argument path"),
        ("folder(path=x)", InputError, "put text in quotes"),
        ("folder(path='x', rezise=8)", UnknownNameError, "Did you mean 'resize'"),
        ("folder(path='x', resize=9999)", InputError, "resize of the dataset folder must be .*at most 4096"),
        ("folder(path='x', colour='blue')", InputError, "auto, grey, rgb or rgba"),
        ("folder(path='x', test_fraction=0)", InputError, "greater than 0"),
        ("folder(path='h', test_fraction=0.5)", InputError, "test_fraction 0.5 has no effect"),
        ("mnist5k(path='x')", UnknownNameError, "argument of the dataset mnist5k"),
        ("mnist(data_dir='x')", InputError, "data_dir of the dataset mnist is given by dlbench"),
        ("folders:x", InputError, "there is no module 'folders'"),
        ("mnits", UnknownNameError, "Did you mean 'mnist'"),
        ("x", UnknownNameError, "pictures in a folder are named as in folder:x"),
        ("x/a/1.png", UnknownNameError, "arrays in a file are named as in npz:x/a/1.png"),
        ("folder:one", InputError, "dataset one@.* has one class, so there is nothing to tell apart"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_trained(
    tmp_path: Path, text: str, error: type[Exception], words: str
) -> None:
    pictures(tmp_path / "x", "1", "2")
    pictures(tmp_path / "h" / "train", "1", "2")
    pictures(tmp_path / "h" / "test", "1", "2")
    pictures(tmp_path / "one", "1", "2", "3", classes="a")
    with pytest.raises(error, match=words):
        planning.plan(expand({"dataset": text, "val_size": 1, "batch_size": 1}))


def test_code_that_a_stored_study_names_is_not_run(functions: str) -> None:
    reference = f"{functions}:halves"
    assert not DATASETS.is_trusted(reference)
    with pytest.raises(InputError, match="the stored study names the dataset"):
        DATASETS.check_trusted(reference, "dataset")
    assert DATASETS.is_trusted("mine@0123456789ab")
    assert functions not in sys.modules


@pytest.mark.slow
def test_a_study_of_pictures_runs_from_the_command_line(tmp_path: Path) -> None:
    pictures(tmp_path / "pics", *"0123456789", shape=(28, 28))
    arguments = "grid --model Linear --dataset.resize 8 28 --dataset folder:pics --val-size 4 --batch-size 4 --epochs 1"
    done = subprocess.run(
        [sys.executable, "-m", "dlbench", *arguments.split(), "--workers", "1", "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    trials = json.loads(done.stdout)["trials"]
    assert [trial["dataset"].partition("@")[0] for trial in trials] == ["pics-8", "pics-28"]
    assert all(trial["status"] == "COMPLETE" for trial in trials)
