"""CIFAR-100, SVHN, EMNIST and KMNIST, in small files of the formats in which they are published."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from dlbench import data
from dlbench.data import tfds_source
from dlbench.data.catalog import CIFAR100, IDX_FILES, KMNIST, MNIST, PUBLIC_SETS, SVHN
from dlbench.errors import DataError
from dlbench.spec.registry import DATASETS

NUM_TRAIN, NUM_TEST = 120, 110
RNG = np.random.default_rng(0)

Arrays = dict[str, np.ndarray[Any, Any]]
Small = Callable[..., None]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DLBENCH_DATA_DIR", raising=False)
    monkeypatch.setattr(tfds_source, "_probe", lambda url: "no network")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Small:
    """A function that lets public data sets be small, their digests unknown unless they are given."""

    def shrink(*names: str, **changes: Any) -> None:
        sizes: dict[str, Any] = {
            "num_train": NUM_TRAIN,
            "num_test": NUM_TEST,
            "md5": {},
            "digest": None,
            **changes,
        }
        for name in names:
            monkeypatch.setitem(PUBLIC_SETS, name, dataclasses.replace(PUBLIC_SETS[name], **sizes))

    return shrink


def made(shape: tuple[int, ...], num_classes: int) -> Arrays:
    found: Arrays = {}
    for half, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        found[f"{half}_images"] = RNG.integers(0, 256, (count, *shape), np.uint8)
        found[f"{half}_labels"] = np.arange(count, dtype=np.uint8) % num_classes
    return found


def same(name: str, folder: Path, arrays: Arrays) -> data.Dataset:
    found = data.load(name, folder)
    for key, array in arrays.items():
        shaped = array if array.ndim != 3 else array[..., np.newaxis]
        np.testing.assert_array_equal(getattr(found, key), shaped)
    assert found.class_names == PUBLIC_SETS[found.name].class_names
    return found


def test_the_catalogue_and_the_names_are_the_same() -> None:
    assert {*PUBLIC_SETS} == {name for name in DATASETS.built_in if data.images_of(name)} - {"mnist5k"}
    for name, known in PUBLIC_SETS.items():
        assert f"{known.num_train:,} + {known.num_test:,}" in DATASETS.built_in[name].description
        assert len({*known.class_names}) == known.num_classes
    assert DATASETS.find("EMNIST") == "emnist_balanced"


# CIFAR-100


def cifar100_files(arrays: Arrays) -> dict[str, dict[str, bytes]]:
    """The files of the Python and of the binary version by folder and name."""
    found: dict[str, dict[str, bytes]] = {"cifar-100-python": {"meta": b"x"}, "cifar-100-binary": {}}
    for half in ("train", "test"):
        images = arrays[f"{half}_images"].transpose(0, 3, 1, 2).reshape(-1, 3072)
        labels = arrays[f"{half}_labels"]
        batch = {
            b"data": images,
            b"fine_labels": labels.tolist(),
            b"coarse_labels": (labels // 5).tolist(),
            b"filenames": [b"a.png"] * len(labels),
        }
        found["cifar-100-python"][half] = pickle.dumps(batch, protocol=2)
        records = np.concatenate([(labels // 5)[:, None], labels[:, None], images], axis=1)
        found["cifar-100-binary"][f"{half}.bin"] = records.tobytes()
    return found


def archived(path: Path, folder: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("folder", ["cifar-100-python", "cifar-100-binary"])
def test_cifar100_in_every_layout(tmp_path: Path, small: Small, folder: str, archive: bool) -> None:
    small("cifar100")
    arrays = made((32, 32, 3), 100)
    files = cifar100_files(arrays)[folder]
    if archive:
        archived(tmp_path / f"{folder}.tar.gz", folder, files)
    else:
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name).write_bytes(content)
    found = same("CIFAR-100", tmp_path, arrays)
    assert found.class_names is not None
    assert found.class_names[:2] == ("apple", "aquarium_fish")


def test_cifar100s_files_are_known_by_their_digests(tmp_path: Path, small: Small) -> None:
    small("cifar100", md5=CIFAR100.md5)
    (tmp_path / "cifar-100-python").mkdir()
    for name, content in cifar100_files(made((32, 32, 3), 100))["cifar-100-python"].items():
        (tmp_path / "cifar-100-python" / name).write_bytes(content)
    with pytest.raises(DataError, match=r"train: the file has md5 .*; expected 16019d7e"):
        data.load("cifar100", tmp_path)
    (tmp_path / "cifar-100-python" / "test").unlink()
    with pytest.raises(DataError, match="holds 1 of the 2 batches; add test"):
        data.load("cifar100", tmp_path)


# SVHN


def put_svhn(folder: Path, arrays: Arrays) -> None:
    folder.mkdir(exist_ok=True)
    for half in ("train", "test"):
        labels = arrays[f"{half}_labels"][:, None].copy()
        labels[labels == 0] = 10
        savemat(
            folder / f"{half}_32x32.mat",
            {"X": arrays[f"{half}_images"].transpose(1, 2, 3, 0), "y": labels},
            do_compression=True,
        )


@pytest.mark.parametrize("folder", ["", "SVHN", "svhn"])
def test_svhn_as_its_authors_and_torchvision_keep_it(tmp_path: Path, small: Small, folder: str) -> None:
    small("svhn")
    arrays = made((32, 32, 3), 10)
    put_svhn(tmp_path / folder, arrays)
    assert same("SVHN", tmp_path, arrays).source == f".mat files in {tmp_path / folder}"


def test_svhn_files_that_are_not_the_original_ones_are_refused(tmp_path: Path, small: Small) -> None:
    small("svhn")
    put_svhn(tmp_path, made((32, 32, 3), 10))
    train, test = (tmp_path / f"{half}_32x32.mat" for half in ("train", "test"))
    content = train.read_bytes(), test.read_bytes()
    train.write_bytes(content[1])
    with pytest.raises(
        DataError, match=r"train_32x32.mat: must hold 120 images of 32x32x3.*\(32, 32, 3, 110\)"
    ):
        data.load("svhn", tmp_path)
    train.write_bytes(content[0][:-100])
    with pytest.raises(DataError, match=r"train_32x32.mat: cannot be read.*download it again"):
        data.load("svhn", tmp_path)
    savemat(train, {"X": np.zeros((32, 32, 3, 120), np.uint8), "y": np.zeros((120, 1))})
    with pytest.raises(DataError, match=r"labels must be between 1 and 10; found 0.0 to 0.0"):
        data.load("svhn", tmp_path)
    small("svhn", md5=SVHN.md5)
    with pytest.raises(DataError, match=r"train_32x32.mat: the file has md5 .*; expected e26dedcc"):
        data.load("svhn", tmp_path)
    test.unlink()
    with pytest.raises(DataError, match=r"holds train_32x32.mat; add test_32x32.mat"):
        data.load("svhn", tmp_path)


# EMNIST and KMNIST


def encode(array: np.ndarray[Any, Any]) -> bytes:
    return (
        struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def emnist_files(part: str, arrays: Arrays) -> dict[str, bytes]:
    """Rows and columns of an image are exchanged, and letters are numbered from 1."""
    found = {}
    for half in ("train", "test"):
        images = encode(arrays[f"{half}_images"].transpose(0, 2, 1))
        labels = encode(arrays[f"{half}_labels"] + (part == "letters"))
        found[f"emnist-{part}-{half}-images-idx3-ubyte"] = images
        found[f"emnist-{part}-{half}-labels-idx1-ubyte"] = labels
    return found


@pytest.mark.parametrize("part", ["balanced", "letters", "digits"])
@pytest.mark.parametrize("layout", ["EMNIST/raw", "gzip", "zip"])
def test_emnist_in_every_layout(tmp_path: Path, small: Small, part: str, layout: str) -> None:
    name = f"emnist_{part}"
    small(name)
    arrays = made((28, 28), PUBLIC_SETS[name].num_classes)
    files = {each: gzip.compress(content) for each, content in emnist_files(part, arrays).items()}
    if layout == "zip":
        with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
            for each, content in files.items():
                archive.writestr(f"gzip/{each}.gz", content)
            archive.writestr("gzip/emnist-byclass-mapping.txt", b"0 48\n")
    else:
        (tmp_path / layout).mkdir(parents=True)
        for each, content in files.items():
            plain = layout == "EMNIST/raw"
            path = tmp_path / layout / (each if plain else f"{each}.gz")
            path.write_bytes(gzip.decompress(content) if plain else content)
    found = same(name.replace("_", "-"), tmp_path, arrays)
    assert data.load(found.reference) == found


def test_emnists_classes_are_those_of_its_mapping() -> None:
    balanced = PUBLIC_SETS["emnist_balanced"].class_names
    assert (balanced[0], balanced[10], balanced[35], "".join(balanced[36:])) == ("0", "A", "Z", "abdefghnqrt")
    byclass = PUBLIC_SETS["emnist_byclass"].class_names
    assert list(byclass) == sorted(byclass)
    assert PUBLIC_SETS["emnist_letters"].class_names[25] == "z"


def test_emnist_files_that_are_damaged_are_named(tmp_path: Path, small: Small) -> None:
    small("emnist_letters")
    (tmp_path / "gzip.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"gzip.zip: cannot be read"):
        data.load("emnist_letters", tmp_path)
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
        archive.writestr("gzip/other", b"")
    with pytest.raises(DataError, match=r"gzip.zip does not hold the files of emnist_letters"):
        data.load("emnist_letters", tmp_path)
    arrays = made((28, 28), 26)
    arrays["test_labels"][3] = 255  # becomes 0 in the file
    for name, content in emnist_files("letters", arrays).items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="labels of emnist_letters must be between 1 and 26; found 0"):
        data.load("emnist_letters", tmp_path)
    (tmp_path / "emnist-letters-test-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="3 of the 4 IDX files; add emnist-letters-test-labels"):
        data.load("emnist_letters", tmp_path)


def test_kmnist_is_known_by_its_files_as_they_are_downloaded(tmp_path: Path, small: Small) -> None:
    """It is never taken for another set, and no other set for it."""
    files = {key: gzip.compress(encode(array), mtime=0) for key, array in made((28, 28), 10).items()}
    digests = {key: hashlib.md5(content).hexdigest() for key, content in files.items()}
    small("kmnist", md5_gz=digests)
    small("mnist", "fashion_mnist", installed_folder="")
    for place in ("KMNIST/raw", "MNIST/raw", "FashionMNIST/raw"):
        (tmp_path / place).mkdir(parents=True)
        for key, content in files.items():
            (tmp_path / place / f"{IDX_FILES[key]}.gz").write_bytes(content)
    assert data.load("kmnist", tmp_path).class_names == KMNIST.class_names
    for name in ("mnist", "fashion_mnist"):
        with pytest.raises(DataError, match="this is the file of data set 'kmnist', in the wrong folder"):
            data.load(name, tmp_path)
    assert {*KMNIST.md5_gz} == {*MNIST.md5} == {*IDX_FILES}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar100", "cifar-100-binary.tar.gz into"),
        ("svhn", "train_32x32.mat, test_32x32.mat into"),
        ("emnist_letters", "IDX files emnist-letters-train-images-idx3-ubyte.*gzip.zip into"),
    ],
)
def test_what_to_do_without_files_and_network(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(DataError, match=rf"data set {name!r} is missing and cannot be downloaded.*{words}"):
        data.load(name, tmp_path)
