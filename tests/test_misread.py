"""Inputs that look like something else: taken as they are meant, or refused with the remedy named."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from conftest import SMALL

import dlbench
from dlbench import files
from dlbench.data import arrays
from dlbench.errors import ConfigError, DataError, FailedTrialsWarning, InputError
from dlbench.execution import devices
from dlbench.spec import config
from dlbench.studies import planning

RNG = np.random.default_rng(0)


def made(images: Any, labels: Any, **options: Any) -> dlbench.Dataset:
    return arrays.from_arrays("mine", images, labels, images, labels, **options)


def some(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, shape, np.uint8)


# Arrays.


@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (4, 1, 28, 28), (4, 4, 32, 48)])
def test_channels_first_is_recognised(shape: tuple[int, ...]) -> None:
    images, labels = some(*shape), np.arange(4)
    with pytest.raises(DataError, match=r"channels first\?; channels_first=True moves"):
        made(images, labels)
    moved = made(images, labels, channels_first=True)
    assert moved.image_shape == (*shape[2:], shape[1])
    assert moved == made(images.transpose(0, 2, 3, 1), labels)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 32, 32, 3), (4, 4, 8, 1), (4, 1, 1, 1)])
def test_small_and_flat_images_are_not_taken_for_channels_first(shape: tuple[int, ...]) -> None:
    assert made(some(*shape), np.arange(4)).image_shape == shape[1:]


@pytest.mark.parametrize(
    "images",
    [
        np.linspace(0, 1, 4 * 8 * 8).reshape(4, 8, 8),
        np.linspace(-1, 1, 4 * 8 * 8).reshape(4, 8, 8),
        np.linspace(0, 255, 4 * 8 * 8).reshape(4, 8, 8),
        np.arange(4 * 8 * 8).reshape(4, 8, 8),
        np.arange(4 * 8 * 8).reshape(4, 8, 8) % 2 == 0,
    ],
    ids=["unit", "symmetric", "bytes", "integers", "truth"],
)
def test_the_remedy_for_images_of_another_type_works(images: Any) -> None:
    """It is run as it is printed; the images then span 0 to 255."""
    with pytest.raises(DataError, match="must be uint8") as caught:
        made(images, np.arange(4))
    assert caught.value.remedy is not None
    code = caught.value.remedy.removesuffix(" converts them").rpartition(": ")[2]
    converted = eval(f"made(images, np.arange(4), {code})", {"images": images, "np": np, "made": made})
    pixels = converted.train_images
    assert (pixels.min(), pixels.max(), pixels.dtype) == (0, 255, np.uint8)
    np.testing.assert_array_equal(
        np.diff(pixels.ravel().astype(float)) >= 0, np.diff(images.ravel().astype(float)) >= 0
    )


def test_images_of_unknown_scale_are_not_given_a_wrong_remedy() -> None:
    images = np.linspace(-9, 900, 256).reshape(4, 8, 8)
    with pytest.raises(DataError, match="state the range that they can have"):
        made(images, np.arange(4))
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]; found values from"):
        made(images, np.arange(4), value_range="[0, 1]")


@pytest.mark.parametrize("given", [{}, {"value_range": "[0, 1]"}])
def test_images_with_values_that_are_no_numbers_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"some values of train_images are not numbers \(nan\)"):
        made(np.full((4, 8, 8), np.nan), np.arange(4), **given)


@pytest.mark.parametrize("value_range", ["0 to 1", "[1, 0]", "[0, inf)"])
def test_a_range_that_is_none_is_refused(value_range: str) -> None:
    with pytest.raises(InputError, match=r"value_range must be a.* interval such as"):
        made(np.zeros((4, 8, 8)), np.arange(4), value_range=value_range)


def test_images_of_several_shapes_are_no_array() -> None:
    with pytest.raises(DataError, match="give all images one shape"):
        made([np.zeros((8, 8)), np.zeros((9, 8))], [0, 1])


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (np.array(["cat", "ant", "dog", "ant"]), [1, 0, 2, 0], ("ant", "cat", "dog")),
        (np.array(["cat", "ant", "dog", "ant"], object), [1, 0, 2, 0], ("ant", "cat", "dog")),
        (np.array([b"cat", b"ant", b"dog", b"ant"]), [1, 0, 2, 0], ("ant", "cat", "dog")),
        (np.array([True, False, True, False]), [1, 0, 1, 0], ("False", "True")),
        (np.array([2, 1, 3, 1], np.uint8), [1, 0, 2, 0], ("1", "2", "3")),
        (np.array([0, -5, 10**9, -5]), [1, 0, 2, 0], ("-5", "0", "1000000000")),
        (np.array([[1], [0], [2], [0]]), [1, 0, 2, 0], None),
    ],
    ids=["names", "objects", "bytes", "truth", "from-one", "any-integers", "column"],
)
def test_labels_of_any_kind_are_numbered_and_named(labels: Any, numbers: list[int], names: Any) -> None:
    found = made(some(4, 8, 8), labels)
    assert found.train_labels.tolist() == numbers
    assert found.class_names == names


def test_class_names_say_the_order_of_text_labels() -> None:
    found = made(some(3, 8, 8), np.array(["b", "a", "c"]), class_names=("c", "b", "a"))
    assert found.train_labels.tolist() == [1, 2, 0]
    with pytest.raises(DataError, match="label 'c' is not among the class names"):
        made(some(3, 8, 8), np.array(["b", "a", "c"]), class_names=("a", "b"))


def test_the_remedy_for_one_hot_labels_works() -> None:
    labels = np.eye(3)[[1, 0, 2, 0]]
    with pytest.raises(DataError, match="must be a one-dimensional array of integers") as caught:
        made(some(4, 8, 8), labels)
    assert caught.value.remedy is not None
    found = eval(caught.value.remedy.split(" ")[0], {"y": labels})
    assert found.tolist() == [1, 0, 2, 0]
    made(some(4, 8, 8), found)


def test_labels_that_the_training_half_lacks_are_named() -> None:
    images = some(3, 8, 8)
    with pytest.raises(DataError, match="of the 4 classes, these do not: emu"):
        arrays.from_arrays("mine", images, ["ant", "cat", "dog"], images, ["ant", "emu", "cat"])
    with pytest.raises(DataError, match="give labels of one kind"):
        arrays.from_arrays("mine", images, ["ant", "cat", "dog"], images, [0, 1, 2])


def test_one_image_is_not_a_set_of_rows() -> None:
    with pytest.raises(DataError, match=r"32 images and 1 labels; x\[np.newaxis\]"):
        made(some(32, 32, 3), [0])
    with pytest.raises(DataError, match=r"found shape \(32, 32\); x\[np.newaxis\]"):
        made(some(32, 32), [0])


def test_a_label_of_a_billion_is_refused_without_counting_to_it() -> None:
    for label in (10**9, 2**62):
        with pytest.raises(DataError, match="every class must occur"):
            made(some(4, 8, 8), np.array([0, 1, 2, label]), num_classes=label + 1)


def test_images_too_small_for_a_model_are_called_so(tmp_path: Path) -> None:
    labels = np.arange(20) % 2
    name = dlbench.data.register(made(some(20, 3, 3, 1), labels))
    study = dlbench.grid(
        model="SimpleCNN", dataset=name, train_size=12, val_size=4, batch_size=4, num_epochs=1
    )
    with pytest.raises(InputError, match="images of 3x3 are too small for model 'SimpleCNN'") as caught:
        dlbench.plan(study, out=tmp_path / "s")
    assert caught.value.field == "model"
    least = int(str(caught.value).split("at least ")[1].split("x")[0])
    with pytest.raises(InputError, match="too small"):  # now from the cache
        dlbench.run(study, out=tmp_path / "s")
    assert not (tmp_path / "s").exists()
    wide = dlbench.data.register(made(some(20, least, least, 1), labels))
    enough = study.model_copy(update={"trials": (study.trials[0].model_copy(update={"dataset": wide}),)})
    assert len(dlbench.plan(enough, out=tmp_path / "t").missing) == 1


POOLS = """
import flax.linen as nn

class Pools(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        for _ in range(5):
            x = nn.max_pool(nn.Conv(2, (3, 3))(x), (2, 2), (2, 2))
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))
"""


def test_images_that_only_the_worker_finds_too_small_are_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pools.py").write_text(POOLS)
    monkeypatch.syspath_prepend(tmp_path)
    name = dlbench.data.register(made(some(20, 28, 28, 1), np.arange(20) % 2))
    study = dlbench.grid(
        model="pools:Pools", dataset=name, train_size=12, val_size=4, batch_size=4, num_epochs=1
    )
    with pytest.warns(FailedTrialsWarning, match="images of 28x28 are too small for model 'pools:Pools'"):
        result = dlbench.run(study, out=tmp_path / "s", workers=1)
    assert "at least 32x32" in result.trials[0].failure
    with pytest.raises(ValueError, match=r"has completed: .*too small"):
        result.best()


def test_a_loaded_model_takes_images_as_training_does(small_result: dlbench.StudyResult) -> None:
    loaded = small_result.trials[0].load()
    images = dlbench.data.load("mnist5k").test_images[:20]
    expected = loaded.predict(images)
    np.testing.assert_array_equal(loaded.predict(images[..., 0]), expected)
    for wrong in (images / 255.0, images.astype(np.float32), images.astype(np.int64)):
        with pytest.raises(InputError, match="images must be uint8"):
            loaded.predict(wrong)
    with pytest.raises(InputError, match="one image a batch"):
        loaded.predict(images[0, ..., 0])


# Numbers.


def read(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return config.read(file).grids[0]


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("seed: [010, 011]", "seed", [10, 11]),
        ("batch_size: 020", "batch_size", [20]),
        ("lr: [1e-3, 1E-2, 1.5e-3, .5, 1.]", "learning_rate", [0.001, 0.01, 0.0015, 0.5, 1.0]),
        ("train_size: 1_000", "train_size", [1000]),
        ("model: Stabilized\nmodel_args: {dropout_rate: 1e-3}", "model_args", [{"dropout_rate": 0.001}]),
        ("model: Stabilized\nmodel.dropout_rate: 1e-3", "model.dropout_rate", [0.001]),
    ],
)
def test_numbers_in_files_are_read_as_flags_are(tmp_path: Path, text: str, field: str, values: Any) -> None:
    found = read(tmp_path, text)[field]
    found = [dict(value) if field == "model_args" else value for value in found]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize("text", ["epochs: 1:30", "batch_size: 0x10", "seed: 0b11", "seed: 0o17"])
def test_what_flags_refuse_as_a_number_files_refuse_too(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"study.yaml:1: .*must be a number"):
        read(tmp_path, text)


def test_a_key_given_twice_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    text = "model: Stabilized\nmodel_args:\n  dropout_rate: 0.1\n  dropout_rate: 0.2\n"
    with pytest.raises(ConfigError, match=r"study.yaml:4: 'dropout_rate' is given already at .*study.yaml:3"):
        read(tmp_path, text)


def test_merge_keys_are_merged(tmp_path: Path) -> None:
    text = "grids:\n- &base {lr: 0.1, epochs: 2}\n- {<<: *base, lr: 0.2}\n- {<<: [{epochs: 3}, *base]}\n"
    file = tmp_path / "study.yaml"
    file.write_text(text)
    assert [dict(grid) for grid in config.read(file).grids] == [
        {"learning_rate": [0.1], "num_epochs": [2]},
        {"learning_rate": [0.2], "num_epochs": [2]},
        {"num_epochs": [3], "learning_rate": [0.1]},
    ]
    with pytest.raises(ConfigError, match=r"study\.yaml:1: '<<' merges mappings"):
        read(tmp_path, "<<: 3\nlr: 1")
    with pytest.raises(ConfigError):
        read(tmp_path, "&a {<<: *a, lr: 1}")


def test_a_decimal_comma_is_no_grid() -> None:
    done = forked.run("plan", "--weight-decay", "0,0005")
    assert done.returncode == 2
    assert "did you mean 0.0005?" in done.stderr


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numpy_numbers_are_the_numbers_that_they_show(kind: type) -> None:
    plain = dlbench.grid(learning_rate=0.1, seed=7)
    assert dlbench.grid(learning_rate=kind(0.1), seed=np.array(7)) == plain
    assert dlbench.grid(learning_rate=np.array([0.1], kind), seed=np.int64(7)) == plain
    given = dlbench.grid(model="Stabilized", model_args={"dropout_rate": kind(0.1)})
    assert given == dlbench.grid(model="Stabilized", model_args={"dropout_rate": 0.1})
    assert np.float32(plain.trials[0].learning_rate) == np.float32(0.1)


# Models.

MODELS = """
import functools
import jax.numpy as jnp
from flax import linen as nn


def flattened(x):
    return x.reshape(len(x), -1)


def mlp(num_classes=10):
    return nn.Sequential([flattened, nn.Dense(8), nn.relu, nn.Dense(num_classes)])


class Listed(nn.Module):
    num_classes: int = 10
    widths: object = None
    table: object = None
    scale: object = None

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1) * self.scale
        for width in [*self.widths, self.table["last"]]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.num_classes)(x)


def listed(num_classes=10):
    return Listed(num_classes, [8, 4], {"last": 4}, jnp.arange(3.0)[2])


class Half(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes, dtype=jnp.bfloat16)(x.reshape(len(x), -1))


class Softmax(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.softmax(nn.Dense(self.num_classes)(x.reshape(len(x), -1)))
"""


@pytest.fixture
def unusual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of one's own, with a name of its own for each test."""
    name = f"unusual_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    "attribute",
    ["Half", *(pytest.param(each, marks=pytest.mark.slow) for each in ("mlp", "listed", "Softmax"))],
)
def test_models_that_hold_lists_or_compute_in_bfloat16_train(
    attribute: str, unusual: str, tmp_path: Path
) -> None:
    said: list[str] = []
    study = dlbench.grid(model=f"{unusual}:{attribute}", seed=[0, 1], **SMALL)

    def hear(event: object) -> None:
        said.append(getattr(event, "text", ""))

    result = dlbench.run(study, out=tmp_path / "s", workers=1, on_event=hear)
    assert [trial.error for trial in result] == [None, None]
    logits = np.load(result.trials[0].folder / "test_logits.npy", allow_pickle=False)
    assert logits.dtype == np.float32
    assert sum("softmax" in text for text in said) == (attribute == "Softmax")
    assert result.trials[1].compile_time_alone_s == result.trials[0].compile_time_alone_s
    if attribute == "Half":
        done = forked.run("results", result.folder)
        assert (done.returncode, done.stderr) == (0, "")


def test_static_parts_are_equal_where_their_models_are(unusual: str) -> None:
    import importlib

    import jax.numpy as jnp

    from dlbench.training.state import Static

    module = importlib.import_module(unusual)
    one, same = Static(module.listed()), Static(module.listed())
    assert one == same
    assert hash(one) == hash(same)
    other = Static(module.Listed(10, [8, 4], {"last": 4}, jnp.float32(3.0)))
    assert one != other
    assert one != Static(module.Listed(10, [8, 5], {"last": 4}, jnp.float32(2.0)))
    assert one != Static(module.listed(), batch_size=8)


def test_a_class_or_function_is_taken_for_its_name(unusual: str) -> None:
    import importlib

    module = importlib.import_module(unusual)
    assert dlbench.grid(model=module.Half) == dlbench.grid(model=f"{unusual}:Half")
    assert dlbench.grid(model=[module.mlp, "Baseline"]).trials[0].model == f"{unusual}:mlp"
    assert dlbench.grid(model=dlbench.models.stabilized) == dlbench.grid(model="Stabilized")


def test_what_no_other_process_could_import_is_held_for_this_one(unusual: str) -> None:
    import importlib

    module = importlib.import_module(unusual)

    def inner(num_classes: int = 10) -> None: ...

    for given in (module.Half(), functools.partial(module.Half), inner, lambda num_classes: None):
        assert dlbench.grid(model=given).trials[0].model.startswith("__held__:")
    for wrong in (module, 3, None, [1.5]):
        with pytest.raises(InputError):
            dlbench.grid(model=[wrong])


# Places.


def test_the_home_folder_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert planning.plan(dlbench.grid(**SMALL), out="~/x").folder == tmp_path / "x"
    monkeypatch.setenv("DLBENCH_CACHE_DIR", "~/c")
    assert files.cache_root() == tmp_path / "c"


@pytest.mark.parametrize(
    ("cgroup", "limits", "cores"),
    [
        ("0::/job", {"job/cpu.max": "50000 100000"}, 0.5),
        ("0::/job/step", {"job/cpu.max": "150000 100000", "job/step/cpu.max": "max 100000"}, 1.5),
        ("0::/", {}, math.inf),
        (
            "4:cpu,cpuacct:/job",
            {"cpu/job/cpu.cfs_quota_us": "200000", "cpu/job/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("4:cpu:/job", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, math.inf),
    ],
)
def test_the_quota_of_a_control_group(
    tmp_path: Path, cgroup: str, limits: dict[str, str], cores: float
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"{cgroup}\n")
    for name, text in limits.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert devices.cpu_quota(tmp_path) == cores
    assert devices.cpu_quota(tmp_path / "absent") == math.inf


def test_a_data_folder_may_be_named_some_way_down(tmp_path: Path) -> None:
    from dlbench.data import idx
    from dlbench.data.catalog import FASHION_MNIST, IDX_FILES

    fashion = dataclasses.replace(FASHION_MNIST, installed_folder="")
    folder = tmp_path / "d" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for stem in IDX_FILES.values():
        (folder / stem).touch()
    for given in (tmp_path / "d", folder.parent, folder):
        found = idx.find_files(fashion, given)
        assert found is not None
        assert {path.parent for path in found.values()} == {folder}
    assert idx.find_files(fashion, tmp_path) is None


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--seeds", "0", "1", "2"], "did you mean --seed 0 1 2?"),
        (["--model", "nets.Net"], "'nets:Net'"),
        (["--model", "nets.py:Net"], "'nets:Net'"),
        (["--model", "nets:Nett"], "Did you mean 'Net'?"),
        (["--model", "nets:Net", "--model.widht", "8"], "Did you mean 'width'?"),
        (["--dataset", "mnist", "--data-dir", "/nope"], "the data folder /nope does not exist"),
    ],
)
@pytest.mark.parametrize("command", [["plan"], ["grid", "--dry-run"]])
def test_plans_refuse_what_would_fail_later(
    command: list[str], words: list[str], hint: str, tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(
        "from flax import linen as nn\nclass Net(nn.Module):\n    num_classes: int = 10\n    width: int = 8\n"
    )
    done = forked.run(*command, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr


def test_names_that_a_source_does_not_tell_are_left_to_the_import() -> None:
    from dlbench.spec.declarations import names_defined

    assert names_defined("import a.b\nfrom c import d as e\nf: int = 1\nif f:\n    class G: ...\n") == set(
        "aefG"
    )
    for source in ("from a import *", "def __getattr__(name): ...", "globals()['Net'] = 1", "no python"):
        assert names_defined(source) is None


def test_a_model_of_an_editable_install_is_found(tmp_path: Path) -> None:
    """Such an install adds a finder, not a folder, to what an import asks."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "faraway.py").write_text("class Net: ...\n")
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.util\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'faraway':\n"
        f"            return importlib.util.spec_from_file_location(name, {str(tmp_path / 'far' / 'faraway.py')!r})\n"
        "sys.meta_path.append(Finder)\n"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "dlbench", "plan", "--model=faraway:Net"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
