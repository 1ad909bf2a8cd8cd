"""The route through TensorFlow Datasets, with small files of the true formats and their checksums."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest

from dlbench import data
from dlbench.data import cifar, tfds_source
from dlbench.data.catalog import IDX_FILES, PUBLIC_SETS
from dlbench.errors import DataError

NUM_TRAIN, NUM_TEST = 50, 20

CHILD = """
import dataclasses, json, sys
import tensorflow_datasets as tfds
from dlbench.data.catalog import PUBLIC_SETS
changes = json.loads(open(sys.argv[1]).read())
PUBLIC_SETS.update({n: dataclasses.replace(PUBLIC_SETS[n], **c) for n, c in changes["sets"].items()})
tfds.download.add_checksums_dir(changes["checksums"])
from dlbench.data import tfds_prepare
del sys.argv[1]
code = tfds_prepare.main()
assert "tensorflow" not in sys.modules and "jax" not in sys.modules
sys.exit(code)
"""

OTHERS_BUILDER = """
import io, pathlib, sys
import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

class Mnist(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("3.0.1")

    def _info(self):
        image, label = tfds.features.Image(shape=(28, 28, 1)), tfds.features.ClassLabel(num_classes=37)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split):
        images, labels = (np.load(f"{sys.argv[1]}/{split}_{kind}.npy") for kind in ("images", "labels"))
        for index, (image, label) in enumerate(zip(images, labels)):
            file = io.BytesIO()
            PIL.Image.fromarray(image[..., 0]).save(file, "PNG")
            yield index, {"image": file.getvalue(), "label": int(label)}

class Emnist(Mnist):
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="letters")]

globals()[sys.argv[3]](data_dir=sys.argv[2], file_format="array_record").download_and_prepare()
"""


def arrays(shape):
    generator = np.random.default_rng(2)
    result = {}
    for half, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        result[f"{half}_images"] = generator.integers(0, 256, (count, *shape), np.uint8)
        result[f"{half}_labels"] = (np.arange(count) % 10).astype(np.int32)
    return result


def idx_files():
    """The four gzipped files of a small MNIST, by name."""
    files = {}
    for key, array in arrays((28, 28, 1)).items():
        array = array[..., 0] if key.endswith("images") else array
        header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
        files[f"{IDX_FILES[key]}.gz"] = gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)
    return files


def cifar_members():
    """The members of a small CIFAR-10 archive, by name."""
    small = arrays((32, 32, 3))
    records = {
        half: np.concatenate(
            [
                small[f"{half}_labels"][:, None].astype(np.uint8),
                small[f"{half}_images"].transpose(0, 3, 1, 2).reshape(-1, 3072),
            ],
            axis=1,
        )
        for half in ("train", "test")
    }
    members = {"cifar-10-batches-bin/test_batch.bin": records["test"].tobytes()}
    for number, block in enumerate(np.split(records["train"], 5), 1):
        members[f"cifar-10-batches-bin/data_batch_{number}.bin"] = block.tobytes()
    members["cifar-10-batches-bin/readme.html"] = b"<html>"
    return members


def archive(members, *infos):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in infos:
            tar.addfile(info)
    return file.getvalue()


def digest(shape):
    return data.from_arrays("x", **arrays(shape), num_classes=10).digest


@pytest.fixture
def small_set(tmp_path, monkeypatch):
    """A function that lets a public data set be small, here and in the child, with true checksums."""
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DLBENCH_DATA_DIR", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "checksums").mkdir()

    def shrink(name, files, url="https://downloads.invalid/"):
        changes = {"url": url, "num_train": NUM_TRAIN, "num_test": NUM_TEST, "digest": None, "md5": {}}
        monkeypatch.setitem(PUBLIC_SETS, name, dataclasses.replace(PUBLIC_SETS[name], **changes))
        lines = [
            f"{url}{file}\t{len(content)}\t{hashlib.sha256(content).hexdigest()}\t{file}"
            for file, content in files.items()
        ]
        (tmp_path / "checksums" / "small.txt").write_text("\n".join(lines))
        child = {"sets": {name: changes}, "checksums": str(tmp_path / "checksums")}
        (tmp_path / "child.json").write_text(json.dumps(child))
        command = (sys.executable, "-c", CHILD, str(tmp_path / "child.json"))
        monkeypatch.setattr(tfds_source, "CHILD", command)

    return shrink


def put_by_hand(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_download_from_a_server_then_prepared_folder_without_it(tmp_path, small_set):
    files = idx_files()
    put_by_hand(tmp_path / "www", files)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        small_set("kmnist", files, f"http://127.0.0.1:{server.server_port}/")
        dataset = data.load("kmnist", tmp_path / "data")
        server.shutdown()
    assert dataset.digest == digest((28, 28, 1))
    known = PUBLIC_SETS["kmnist"]
    assert tfds_source._absent_files(known, tmp_path / "data" / "tfds") == []
    assert data.load("kmnist", tmp_path / "data").digest == dataset.digest
    for entry in (tmp_path / "cache" / "datasets").iterdir():
        (entry / "meta.json").unlink()
    assert data.load("kmnist", tmp_path / "data").digest == dataset.digest


def test_original_files_put_by_hand_need_no_network(tmp_path, small_set):
    files = {"cifar-10-binary.tar.gz": archive(cifar_members())}
    small_set("cifar10", files)
    put_by_hand(tmp_path / "data" / "tfds" / "downloads" / "manual", files)
    dataset = data.load("CIFAR-10", tmp_path / "data")
    assert dataset.digest == digest((32, 32, 3))
    assert dataset.class_names[0] == "airplane"
    assert data.info("cifar10").class_counts["train"] == (5,) * 10


def test_a_file_put_by_hand_that_is_not_the_original_is_refused(tmp_path, small_set):
    files = idx_files()
    small_set("mnist", files)
    changed = {**files, "t10k-labels-idx1-ubyte.gz": files["t10k-labels-idx1-ubyte.gz"] + b"x"}
    put_by_hand(tmp_path / "data" / "tfds" / "downloads" / "manual" / "mnist", changed)
    with pytest.raises(DataError, match=r"not the original.*t10k-labels"):
        data.load("mnist", tmp_path / "data")


def test_two_processes_may_prepare_at_once(tmp_path, small_set):
    files = idx_files()
    small_set("mnist", files)
    folder = tmp_path / "tfds"
    put_by_hand(folder / "downloads" / "manual", files)
    outs = [tmp_path / "out1", tmp_path / "out2"]
    for out in outs:
        out.mkdir()
    processes = [
        subprocess.Popen(
            [*tfds_source.CHILD, "mnist", "--tfds-dir", folder, "--out", out], stderr=subprocess.PIPE
        )
        for out in outs
    ]
    for process, out in zip(processes, outs, strict=True):
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 0, errors.decode()
        assert np.array_equal(np.load(out / "train_images.npy"), arrays((28, 28, 1))["train_images"])


def test_another_process_may_prepare_it_after_one_has_looked(tmp_path, small_set):
    files = idx_files()
    small_set("mnist", files)
    folder = tmp_path / "tfds"
    put_by_hand(folder / "downloads" / "manual", files)
    outs = [tmp_path / "first", tmp_path / "second"]
    for out in outs:
        out.mkdir()
    first = [*tfds_source.CHILD, "mnist", "--tfds-dir", str(folder), "--out"]
    meanwhile = f"""
import subprocess
def look(known, folder, build=tfds_prepare._builder):
    builder = build(known, folder)
    if not told:
        told.append(builder)
        subprocess.run({[*first, str(outs[0])]!r}, check=True)
    return builder
told, tfds_prepare._builder = [], look
"""
    python, option, code, *rest = [*first, str(outs[1])]
    code = code.replace("del sys.argv[1]", f"{meanwhile}del sys.argv[1]")
    subprocess.run([python, option, code, *rest], check=True)
    for out in outs:
        assert np.array_equal(np.load(out / "train_images.npy"), arrays((28, 28, 1))["train_images"])


def test_what_tfds_itself_prepared_is_read_in_the_original_order(tmp_path, small_set):
    small_set("mnist", idx_files())
    for key, array in arrays((28, 28, 1)).items():
        np.save(tmp_path / f"{key}.npy", array)
    subprocess.run([sys.executable, "-c", OTHERS_BUILDER, tmp_path, tmp_path / "data", "Mnist"], check=True)
    dataset = data.load("mnist", tmp_path / "data")
    assert dataset.digest == digest((28, 28, 1))
    assert "3.0.1" in dataset.source


@pytest.mark.slow
def test_emnist_as_tfds_itself_prepared_it_is_upright_and_numbered_from_0(tmp_path, small_set):
    small_set("emnist_letters", {})
    generator, expected = np.random.default_rng(0), {}
    for half, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        expected[f"{half}_images"] = generator.integers(0, 256, (count, 28, 28, 1), np.uint8)
        expected[f"{half}_labels"] = np.arange(count) % 26 if half == "train" else np.arange(count)
        np.save(tmp_path / f"{half}_images.npy", expected[f"{half}_images"].transpose(0, 2, 1, 3))
        np.save(tmp_path / f"{half}_labels.npy", expected[f"{half}_labels"] + 1)
    subprocess.run([sys.executable, "-c", OTHERS_BUILDER, tmp_path, tmp_path / "data", "Emnist"], check=True)
    dataset = data.load("emnist_letters", tmp_path / "data")
    assert dataset.digest == data.from_arrays("x", **expected, num_classes=26).digest
    assert "emnist/letters/3.0.1" in dataset.source


@pytest.mark.slow
def test_the_archive_of_emnist_put_by_hand_needs_no_network(tmp_path, small_set):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for name, content in idx_files().items():
            half, kind = name.split("-")[:2]
            half = "train" if half == "train" else "test"
            written.writestr(f"gzip/emnist-mnist-{half}-{kind}-{name.split('-', 2)[2]}", content)
    files = {"gzip.zip": archive.getvalue()}
    small_set("emnist_mnist", files)
    put_by_hand(tmp_path / "data" / "tfds" / "downloads" / "manual", files)
    dataset = data.load("emnist_mnist", tmp_path / "data")
    upright = arrays((28, 28, 1))
    for half in ("train", "test"):
        upright[f"{half}_images"] = upright[f"{half}_images"].transpose(0, 2, 1, 3)
    assert dataset.digest == data.from_arrays("x", **upright, num_classes=10).digest


# Offline


def test_offline_is_said_within_seconds_and_what_to_do(tmp_path, small_set):
    small_set("mnist", idx_files())
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        data.load("mnist", tmp_path / "data")
    assert time.monotonic() - start < 10
    message = str(caught.value)
    for words in (
        "downloads.invalid",
        f"{tmp_path}/data/MNIST/raw",
        "train-images-idx3-ubyte",
        f"{tmp_path}/data/tfds/downloads/manual",
        "mnist5k",
    ):
        assert words in message, message
    assert not (tmp_path / "data" / "tfds").exists()


def test_a_server_that_never_answers_counts_as_offline(tmp_path, small_set, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        small_set("cifar10", {}, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        monkeypatch.setattr(tfds_source, "_PROBE_S", 0.5)
        with pytest.raises(DataError, match=r"cannot be downloaded.*cifar-10-binary.tar.gz into"):
            data.load("cifar10")


def test_a_name_service_that_never_answers_counts_as_offline(small_set, monkeypatch):
    small_set("cifar10", {})
    monkeypatch.setattr(tfds_source, "_PROBE_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: time.sleep(3))
    start = time.monotonic()
    with pytest.raises(DataError, match="no answer within"):
        data.load("cifar10")
    assert time.monotonic() - start < 2


def test_a_server_without_the_file_counts_as_offline(tmp_path, small_set):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        small_set("cifar10", {}, f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(DataError, match="HTTP status 404"):
            data.load("cifar10")
        server.shutdown()


def test_a_child_that_dies_is_an_error_of_ours(tmp_path, small_set, monkeypatch):
    small_set("mnist", idx_files())
    put_by_hand(tmp_path / "data" / "tfds" / "downloads" / "manual", idx_files())
    monkeypatch.setattr(tfds_source, "CHILD", (sys.executable, "-c", "import os; os.abort()"))
    with pytest.raises(DataError, match="ended with exit code"):
        data.load("mnist", tmp_path / "data")


# CIFAR-10's archive


def _link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def broken_in_the_middle(content):
    """The archive, stored without compression, with the lengths of the second block spoilt."""
    stored = bytearray(gzip.compress(gzip.decompress(content), 0))
    second = 15 + struct.unpack_from("<H", stored, 11)[0]
    stored[second : second + 5] = b"\xff" * 5
    return bytes(stored)


MEMBERS = cifar_members()
BATCH = "cifar-10-batches-bin/data_batch_3.bin"
WHOLE = archive(MEMBERS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive({**MEMBERS, "../evil": b""}), ["'../evil'", "outside"]),
        (archive({**MEMBERS, "/etc/evil": b""}), ["'/etc/evil'", "outside"]),
        (archive(MEMBERS, _link("cifar-10-batches-bin/x", "/etc/passwd")), ["not a regular file"]),
        (archive({k: v for k, v in MEMBERS.items() if k != BATCH}), ["missing from the archive", BATCH]),
        (archive({**MEMBERS, BATCH: MEMBERS[BATCH][:-1]}), [BATCH, "10 records of 3073", "found 30729"]),
        (archive({**MEMBERS, BATCH: b"\x0a" + MEMBERS[BATCH][1:]}), [BATCH, "0 and 9", "found 10"]),
        (WHOLE[: len(WHOLE) // 2], ["cannot be read", "damaged"]),
        (WHOLE[:2000] + b"\xff" * 100 + WHOLE[2100:], ["damaged"]),
        (broken_in_the_middle(WHOLE), ["cannot be read", "damaged"]),
        (WHOLE[:10] + b"\xff" * 50, ["cannot be read", "damaged"]),
        (b"", ["cannot be read"]),
        (b"no archive", ["cannot be read"]),
    ],
)
def test_damaged_and_unsafe_archives_are_refused(tmp_path, content, words):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(content)
    known = dataclasses.replace(PUBLIC_SETS["cifar10"], num_train=NUM_TRAIN, num_test=NUM_TEST)
    with pytest.raises(DataError) as caught:
        cifar.read_files(known, {path.name: path})
    assert all(word in str(caught.value) for word in [str(path), *words]), str(caught.value)
    assert os.listdir(tmp_path) == [path.name]
