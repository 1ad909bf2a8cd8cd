import dataclasses
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from dlbench import data
from dlbench.data import idx
from dlbench.data.catalog import FASHION_MNIST, IDX_FILES, KMNIST, MNIST, PUBLIC_SETS
from dlbench.errors import DataError

NUM_TRAIN, NUM_TEST = 40, 20


def encode(array):
    """The bytes of an IDX file."""
    header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def originals():
    """The four files of a small data set, by name."""
    generator = np.random.default_rng(1)
    arrays = {}
    for half, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        arrays[f"{half}_images"] = generator.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{half}_labels"] = np.arange(count, dtype=np.uint8) % 10
    return {stem: encode(arrays[key]) for key, stem in IDX_FILES.items()}


@pytest.fixture(autouse=True)
def small_sets(tmp_path, monkeypatch):
    """Let the public data sets be small, and the cache be the test's own."""
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    for name, known in list(PUBLIC_SETS.items()):
        small = dataclasses.replace(
            known, num_train=NUM_TRAIN, num_test=NUM_TEST, digest=None, md5={}, installed_folder=""
        )
        monkeypatch.setitem(PUBLIC_SETS, name, small)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data" / "MNIST" / "raw"
    path.mkdir(parents=True)
    for name, content in originals().items():
        (path / name).write_bytes(content)
    return path


def load(folder):
    return data.load("mnist", folder.parents[1])


@pytest.mark.parametrize("place", [".", "MNIST/raw", "mnist"])
@pytest.mark.parametrize("spelling", ["plain", "gz", "dotted", "dotted gz"])
def test_every_folder_and_spelling_is_found(tmp_path, place, spelling):
    target = tmp_path / "data" / place
    target.mkdir(parents=True)
    for name, content in originals().items():
        name = name.replace("-idx", ".idx") if "dotted" in spelling else name
        zipped = "gz" in spelling
        (target / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    dataset = data.load("mnist", tmp_path / "data")
    assert dataset.train_images.tobytes() == originals()["train-images-idx3-ubyte"][16:]
    assert dataset.test_labels.tolist() == list(originals()["t10k-labels-idx1-ubyte"][8:])
    assert dataset.class_names == tuple("0123456789")
    assert str(target) in dataset.source


def test_the_environment_names_the_data_folder(folder, monkeypatch):
    monkeypatch.setenv("DLBENCH_DATA_DIR", str(folder.parents[1]))
    assert len(data.load("mnist").train_labels) == NUM_TRAIN


def test_torchvision_folders_of_the_other_sets(tmp_path):
    for name, place in (("fashion_mnist", "FashionMNIST/raw"), ("kmnist", "KMNIST/raw")):
        target = tmp_path / place
        target.mkdir(parents=True)
        for file, content in originals().items():
            (target / file).write_bytes(content)
        assert data.load(name, tmp_path).class_names == PUBLIC_SETS[name].class_names


def test_a_browser_that_decompressed_a_file_does_no_harm(folder):
    path = folder / "train-images-idx3-ubyte"
    path.rename(folder / "train-images-idx3-ubyte.gz")
    assert len(load(folder).train_images) == NUM_TRAIN


def test_changed_files_are_read_anew(folder):
    first = load(folder)
    assert load(folder) == first
    labels = bytearray(originals()["t10k-labels-idx1-ubyte"])
    labels[8] = 5
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(labels)
    os.utime(path, (1, 1))
    second = load(folder)
    assert second.digest != first.digest
    assert data.load(first.reference) == first


FILES = originals()
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
ZIPPED = gzip.compress(FILES[IMAGES], mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (IMAGES, b"", ["header", "found 0"]),
        (IMAGES, FILES[IMAGES][:3], ["header", "found 3"]),
        (IMAGES, FILES[IMAGES][:10], ["header", "found 10"]),
        (IMAGES, FILES[IMAGES][:-1], [f"{NUM_TRAIN * 784} bytes", f"only {NUM_TRAIN * 784 - 1}"]),
        (IMAGES, FILES[IMAGES] + b"\0", [f"{NUM_TRAIN * 784} bytes", "more"]),
        (IMAGES, b"\x12\x34" + FILES[IMAGES][2:], ["magic number 2051", "found magic number 305"]),
        (IMAGES, FILES[LABELS], ["images", "2051", "labels", "2049"]),
        (LABELS, FILES[IMAGES], ["labels", "2049", "images", "2051"]),
        (IMAGES, FILES["t10k-images-idx3-ubyte"], ["40x28x28", "20x28x28", "swapped"]),
        (LABELS, FILES["t10k-labels-idx1-ubyte"], ["40 labels", "found 20", "swapped"]),
        (IMAGES, encode(np.zeros((40, 14, 56))), ["40x28x28", "40x14x56"]),
        (IMAGES, encode(np.zeros((0, 28, 28))), ["40x28x28", "0x28x28"]),
        (IMAGES, struct.pack(">4I", 2051, 2**32 - 1, 28, 28), ["4294967295x28x28"]),
        (IMAGES, ZIPPED[: len(ZIPPED) // 2], ["cannot be read", "damaged"]),
        (IMAGES, ZIPPED[:100] + b"\xff" * 50 + ZIPPED[150:], ["damaged"]),
        (IMAGES, ZIPPED[:10] + b"\xff" * 50, ["cannot be read", "damaged"]),
        (IMAGES, ZIPPED[:-8] + b"\0" * 8, ["cannot be read", "CRC"]),
        (LABELS, encode(np.full(40, 10)), ["between 0 and 9", "found 10"]),
        (LABELS, encode(np.arange(40) % 9), ["every class", ": 9."]),
    ],
)
def test_damaged_and_mislabelled_files_are_named(folder, name, content, words):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(folder)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    if "every class" not in words:
        assert str(folder / name) in str(caught.value)


def test_missing_files_are_named(folder):
    (folder / IMAGES).unlink()
    with pytest.raises(DataError, match="holds 3 of the 4 IDX files; add train-images-idx3-ubyte"):
        load(folder)


def test_a_folder_in_place_of_a_file_counts_as_missing(folder):
    (folder / IMAGES).unlink()
    (folder / IMAGES).mkdir()
    with pytest.raises(DataError, match="3 of the 4"):
        load(folder)


def test_a_missing_data_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        data.load("mnist", tmp_path / "nowhere")


def test_known_digests_are_compared(folder, monkeypatch):
    monkeypatch.setitem(
        PUBLIC_SETS, "mnist", dataclasses.replace(PUBLIC_SETS["mnist"], md5={"test_labels": "0" * 32})
    )
    with pytest.raises(DataError, match=r"t10k-labels.*md5.*0{32}"):
        load(folder)


# The real MNIST


@pytest.fixture
def real(monkeypatch):
    place = os.environ.get("DLBENCH_DATA_DIR")
    if not place or idx.find_files(MNIST, Path(place)) is None:
        pytest.skip("set DLBENCH_DATA_DIR to a folder with the IDX files of MNIST to run this test")
    monkeypatch.setitem(PUBLIC_SETS, "mnist", MNIST)
    return Path(place)


def test_real_mnist_has_the_published_digest_and_holds_mnist5k(real):
    mnist, small = data.load("mnist"), data.load("mnist5k")
    assert mnist.digest == MNIST.digest
    assert mnist.train_images.shape == (60_000, 28, 28, 1)
    train = {
        image.tobytes(): label for image, label in zip(mnist.train_images, mnist.train_labels, strict=True)
    }
    test = {image.tobytes() for image in mnist.test_images}
    for images, labels in ((small.train_images, small.train_labels), (small.test_images, small.test_labels)):
        assert [train[image.tobytes()] for image in images] == labels.tolist()
        assert not any(image.tobytes() in test for image in images)


def test_mnist_in_the_folder_of_another_set_is_refused(real, tmp_path, monkeypatch):
    monkeypatch.setitem(
        PUBLIC_SETS,
        "fashion_mnist",
        FASHION_MNIST,
    )
    (tmp_path / "FashionMNIST").mkdir()
    (tmp_path / "FashionMNIST" / "raw").symlink_to(next(iter(idx.find_files(MNIST, real).values())).parent)
    with pytest.raises(DataError, match=r"this is the file of data set 'mnist'"):
        data.load("fashion_mnist", tmp_path)


def test_other_files_under_the_names_of_fashion_mnist_are_refused(tmp_path, monkeypatch):
    """As KMNIST's are: they have the same names, shapes and classes."""
    monkeypatch.setitem(PUBLIC_SETS, "fashion_mnist", dataclasses.replace(FASHION_MNIST, installed_folder=""))
    for suffix in ("", ".gz"):
        target = tmp_path / f"data{suffix}" / "FashionMNIST" / "raw"
        target.mkdir(parents=True)
        for key, stem in IDX_FILES.items():
            count = 60_000 if key.startswith("train") else 10_000
            array = np.arange(count) % 10 if key.endswith("labels") else np.ones((count, 28, 28), np.uint8)
            content = encode(array)
            (target / (stem + suffix)).write_bytes(gzip.compress(content, 1) if suffix else content)
        with pytest.raises(DataError, match=r"train-images.* md5 .*; expected f4a8712d.*put the original"):
            data.load("fashion_mnist", tmp_path / f"data{suffix}")


INSTALLED = Path(FASHION_MNIST.installed_folder)


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_found_where_a_distribution_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLIC_SETS, "fashion_mnist", FASHION_MNIST)
    monkeypatch.delenv("DLBENCH_DATA_DIR", raising=False)
    found = data.load("fashion_mnist")
    assert found.digest == FASHION_MNIST.digest
    assert str(INSTALLED) in found.source
    for place in ("MNIST", "KMNIST"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "raw").symlink_to(INSTALLED)
        monkeypatch.setitem(
            PUBLIC_SETS,
            place.lower(),
            dataclasses.replace(MNIST if place == "MNIST" else KMNIST, digest=None),
        )
        with pytest.raises(DataError, match=r"this is the file of data set 'fashion_mnist'"):
            data.load(place.lower(), tmp_path)
