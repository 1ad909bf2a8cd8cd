"""CIFAR-10's folders and archives, in the layouts that torchvision and its authors use."""

import dataclasses
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from dlbench import data
from dlbench.data.catalog import CIFAR10, PUBLIC_SETS
from dlbench.errors import DataError

PER_BATCH = 20


def batches():
    """Images [N, 3072] and labels of small batches, by name."""
    generator = np.random.default_rng(3)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    return {
        name: (generator.integers(0, 256, (PER_BATCH, 3072), np.uint8), np.arange(PER_BATCH) % 10)
        for name in names
    }


def pickled(images, labels):
    """As Python 2 wrote it."""
    return pickle.dumps({b"data": images, b"labels": labels.tolist(), b"batch_label": b"x"}, protocol=2)


def binary(images, labels):
    return np.concatenate([labels.astype(np.uint8)[:, None], images], axis=1).tobytes()


FILES = {
    "py": {name: pickled(*batch) for name, batch in batches().items()} | {"batches.meta": b"x"},
    "bin": {f"{name}.bin": binary(*batch) for name, batch in batches().items()},
}


@pytest.fixture(autouse=True)
def small_set(tmp_path, monkeypatch):
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    small = dataclasses.replace(CIFAR10, num_train=5 * PER_BATCH, num_test=PER_BATCH, md5={})
    monkeypatch.setitem(PUBLIC_SETS, "cifar10", small)


def written(folder, kind, archived, files=None):
    files = files or FILES[kind]
    name = f"cifar-10-batches-{kind}"
    if archived:
        path = folder / f"cifar-10-{'python' if kind == 'py' else 'binary'}.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for file, content in files.items():
                info = tarfile.TarInfo(f"{name}/{file}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path
    (folder / name).mkdir()
    for file, content in files.items():
        (folder / name / file).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("kind", ["py", "bin"])
def test_every_layout_holds_the_same_images(kind, archived, tmp_path):
    path = written(tmp_path, kind, archived)
    found = data.load("cifar10", tmp_path)
    images, labels = batches()["data_batch_2"]
    np.testing.assert_array_equal(found.train_labels[PER_BATCH : 2 * PER_BATCH], labels)
    np.testing.assert_array_equal(
        found.train_images[PER_BATCH : 2 * PER_BATCH],
        images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
    )
    assert found.class_names[:2] == ("airplane", "automobile")
    assert path.name in found.source
    if not archived:
        assert data.load("cifar10", path) == found


def test_a_missing_batch_is_named(tmp_path):
    (written(tmp_path, "py", False) / "data_batch_4").unlink()
    with pytest.raises(DataError, match="holds 5 of the 6 batches; add data_batch_4"):
        data.load("cifar10", tmp_path)
    (tmp_path / "b").mkdir()
    written(tmp_path / "b", "py", True, {k: v for k, v in FILES["py"].items() if k != "test_batch"})
    with pytest.raises(DataError, match="test_batch is missing from the archive"):
        data.load("cifar10", tmp_path / "b")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


IMAGES, LABELS = batches()["data_batch_1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps({b"data": Evil(), b"labels": []}), "it would call posix.mkdir"),
        (b"", "not a batch of CIFAR"),
        (b"\x80\x02garbage", "not a batch of CIFAR"),
        (pickle.dumps([1]), "not a batch of CIFAR"),
        (pickled(IMAGES.astype(np.int16), LABELS), "no images and labels"),
        (pickled(IMAGES, LABELS[1:]), "no images and labels"),
        (pickled(IMAGES, LABELS - 1), "labels are not from 0 to 255"),
        (pickled(IMAGES, LABELS + 5), "labels must be between 0 and 9; found 14"),
        (pickled(IMAGES[:-1], LABELS[:-1]), "must hold 20 records"),
    ],
)
def test_damaged_and_unsafe_batches_are_refused(content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "py", False, FILES["py"] | {"data_batch_1": content})
    with pytest.raises(DataError, match=words) as caught:
        data.load("cifar10", tmp_path)
    assert "data_batch_1" in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_batches_that_are_not_the_original_ones_are_refused(tmp_path, monkeypatch):
    small = dataclasses.replace(PUBLIC_SETS["cifar10"], md5=CIFAR10.md5)
    monkeypatch.setitem(PUBLIC_SETS, "cifar10", small)
    written(tmp_path, "py", False)
    with pytest.raises(DataError, match=r"data_batch_1: the file has md5 .*; expected c99cafc1"):
        data.load("cifar10", tmp_path)
