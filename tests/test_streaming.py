"""Data sets that are larger than the memory they may take: the bits of trials in memory, and little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import dlbench
from dlbench.data import decoding, mapped
from dlbench.data.cleaned import cleaned
from dlbench.errors import InputError
from dlbench.execution import images, messages
from dlbench.execution.worker import Worker

#: With parts of 32 images: two batches in a part, two parts and a rest in an epoch; a block and a rest in evaluation.
SIZES: dict[str, Any] = {"train_size": 70, "val_size": 130, "batch_size": 16, "num_epochs": 2}


@pytest.fixture(scope="module")
def shades(cache: Path) -> str:
    """A data set of three shades."""
    generator = np.random.default_rng(0)
    labels = np.arange(330) % 3
    shades = (generator.integers(0, 100, (330, 8, 8, 3)) + 70 * labels[:, None, None, None]).astype(np.uint8)
    dataset = dlbench.from_arrays("shades", shades[:210], labels[:210], shades[210:], labels[210:])
    return dlbench.data.register(dataset)


def trained(study: dlbench.StudySpec, part: int | None, lanes: int = 1) -> list[tuple[Any, Any, Any]]:
    """What a worker makes of the trials of a study, in one job: bits, history, checkpoint, logits.

    Args:
        study: the study.
        part: images of a part; ``None`` for all in memory.
        lanes: number of lanes.
    """
    events: list[messages.AnyEvent] = []
    memory_bytes = 10**9 if part is None else 2 * part * 8 * 8 * 3
    worker = Worker(0, None, None, events.append, memory_bytes=memory_bytes)
    with mock.patch.object(images, "PARTS", 2):  # more would need a larger set
        worker.run(dlbench.plan(study, lanes=lanes, workers=0).trials)
    failed = [event for event in events if isinstance(event, messages.Failed)]
    assert not failed, failed[0].traceback
    assert [data.part_bytes is None for data in worker._data.values()] == [part is None]
    found = [event for event in events if isinstance(event, messages.Finished)]
    names = ("params_sha256", "best_params_sha256", "history_sha256", "test_loss", "test_accuracy_augmented")
    made = ("val_logits.npy", "test_logits.npy")
    return [
        (
            {name: each.outcome[name] for name in names},
            each.history,
            {name: each.files[name] for name in made},
        )
        for each in found
    ]


def test_a_trial_has_the_bits_that_it_has_in_memory(shades: str) -> None:
    study = dlbench.grid(
        dataset=shades,
        model="MLP",
        optimizer="sgd",
        transform="flip+crop(padding=1)",
        test_augmented=True,
        schedule="cosine",
        seed=3,
        **SIZES,
    )
    assert trained(study, 32) == trained(study, None)


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 32, 48, 64], ids=lambda part: f"{part}-images")
@pytest.mark.parametrize(
    "fields",
    [
        {"model": ["Baseline"], "batch_size": 10},
        {"model": ["resnet20(width=4)"], "optimizer": "sgd", "normalize": "dataset"},
        {"model": ["SimpleCNN"], "selection_metric": "f1", "class_weights": "balanced"},
        {"model": ["Stabilized"], "mixup": 0.2, "ema_decay": 0.9, "clip_norm": 1.0, "test_size": 60},
        {"model": ["CIFAR-CNN(dropout_rate=0.2)"], "batch_size": 70, "transform": "augmented"},
        {"model": ["ViT-Tiny(depth=1,width=8,heads=1,patch=4)"], "batch_size": 64},
        {"model": ["Linear"], "train_size": 20},
        {"model": ["MLP"], "train_size": 64, "val_size": 60, "schedule": "one-cycle", "num_epochs": 3},
    ],
    ids=lambda fields: fields["model"][0],
)
def test_every_kind_of_trial_has_the_bits_that_it_has_in_memory(
    shades: str, fields: dict[str, Any], part: int
) -> None:
    study = dlbench.grid(dataset=shades, seed=3, **SIZES | fields)
    assert trained(study, part) == trained(study, None)


@pytest.mark.slow
@pytest.mark.parametrize("vary", ["all", "split", "init"])
def test_lanes_have_the_bits_that_they_have_in_memory(shades: str, vary: str) -> None:
    """But for the training loss, which nothing depends on: the compiler rounds it elsewhere."""
    study = dlbench.grid(dataset=shades, model="Stabilized", seed=[0, 1, 2], vary=vary, **SIZES)
    streamed, in_memory = trained(study, 4 * 32, 4), trained(study, None, 4)
    assert len(streamed) == len(in_memory) == 3
    for (bits, history, files), (expected, curves, made) in zip(streamed, in_memory, strict=True):
        assert bits | {"history_sha256": ""} == expected | {"history_sha256": ""}
        assert files == made
        assert [epoch[1:] for epoch in history] == [epoch[1:] for epoch in curves]
        np.testing.assert_allclose([epoch[0] for epoch in history], [epoch[0] for epoch in curves], 1e-6)


def test_rows_are_read_part_by_part_and_given_back(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 1 << 19), np.uint8)  # 25 MiB
    np.save(tmp_path / "a.npy", array)
    stored = np.load(tmp_path / "a.npy", mmap_mode="r")
    rows = np.random.default_rng(1).permutation(50).reshape(2, 25)
    np.testing.assert_array_equal(mapped.take(stored, rows), array[rows])
    assert [len(block) for block in mapped.blocks(stored)] == [32, 18]
    np.testing.assert_array_equal(np.concatenate([*mapped.blocks(array)]), array)
    assert resident(stored) == 0
    assert stored.sum() == array.sum()
    assert resident(stored) == 50 << 19
    held = mapped.in_file(mapped.blocks(stored))
    np.testing.assert_array_equal(held, array)
    assert not [*dlbench.data.cache_root().glob("tmp*")]


def resident(array: np.ndarray[Any, Any]) -> int:
    """Bytes of a mapped array that are in this process's memory, to whole blocks of 64 KiB."""
    start = f"{array.__array_interface__['data'][0] & -4096:x}-"
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    assert any(line.startswith(start) for line in lines)
    rss = next(line for line in lines if line.startswith("Rss:"))
    return int(rss.split()[1]) * 1024 >> 16 << 16


def test_what_can_be_written_to_is_not_given_back(tmp_path: Path) -> None:
    """A private copy of a page would be lost."""
    np.save(tmp_path / "a.npy", np.zeros((4, 4096), np.uint8))
    own = np.load(tmp_path / "a.npy", mmap_mode="c")
    own += 1
    assert all((block == 1).all() for block in mapped.blocks(own))
    assert (own == 1).all()
    assert mapped.mapping(own) is None


def test_mapped_images_are_not_copied(tmp_path: Path) -> None:
    drawn, labels = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8), [0, 1, 2] * 2
    np.save(tmp_path / "a.npy", drawn)
    stored = np.load(tmp_path / "a.npy", mmap_mode="r")
    found = dlbench.from_arrays("x", stored, labels, stored, labels)
    assert np.shares_memory(found.train_images, stored)
    assert found.digest == dlbench.from_arrays("x", drawn, labels, drawn, labels).digest


def test_images_are_not_read_to_find_that_nothing_is_cleaned(shades: str) -> None:
    class Unread:
        def __array__(self, *_: object, **__: object) -> np.ndarray[Any, Any]:
            raise AssertionError

    images: Any = Unread()
    dataset = replace(dlbench.data.load(shades), train_images=images, test_images=images)
    assert cleaned(dataset, {}) is dataset


def test_decoding_is_only_a_few_blocks_ahead() -> None:
    begun: list[int] = []

    def work(item: int) -> np.ndarray[Any, Any]:
        begun.append(item)
        return np.full(1, item, np.uint8)

    ahead = 2 * 16 + 1
    for place, found in enumerate(decoding._in_order(work, range(200))):
        assert found[0] == place
        assert max(begun) <= place + ahead


@pytest.mark.parametrize("value", ["2", "2 gigabytes", "-1GiB", 2**31])
def test_memory_is_a_number_with_a_unit(value: object) -> None:
    with pytest.raises(InputError, match="data_memory must be a number with one of the units B, kB"):
        dlbench.RunOptions(data_memory=value)  # type: ignore[arg-type]


def test_test_images_that_are_transformed_must_fit(shades: str) -> None:
    study = dlbench.grid(dataset=shades, transform="flip", test_augmented=True, **SIZES)
    with pytest.raises(
        InputError, match=r"test_augmented transforms all test images .* more than data_memory 20KiB"
    ):
        dlbench.plan(study, data_memory="20KiB")
    assert dlbench.plan(study, data_memory="23KiB").trials


@pytest.mark.slow
def test_a_study_of_a_set_ten_times_as_large_stays_within_its_memory(tmp_path: Path) -> None:
    """What both processes take, compared with a set of a few images; with the check of equal images and all."""
    code = textwrap.dedent(
        """
        import json, resource, sys
        import numpy as np
        import dlbench
        from dlbench.data import mapped
        count = int(sys.argv[1])
        draw = np.random.default_rng(0)
        parts = (draw.integers(0, 256, (min(1000, count - n), 64, 64, 3), np.uint8) for n in range(0, count, 1000))
        labels = np.arange(count) % 2
        images = mapped.in_file(parts)
        cut = count * 9 // 10
        data = dlbench.from_arrays("large", images[:cut], labels[:cut], images[cut:], labels[cut:])
        study = dlbench.grid(dataset=data, model="Baseline", batch_size=64, val_size=count // 20, num_epochs=1)
        said = []
        notice = lambda event: said.append(getattr(event, "text", ""))
        (trial,) = dlbench.run(study, workers=1, data_memory="64MiB", out=sys.argv[2], on_event=notice)
        assert not trial.error, trial.error
        assert any("they are streamed from the cache" in text for text in said) == (count > 10_000)
        usage = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        print(json.dumps(usage))
        """
    )

    def peaks(count: int) -> list[int]:
        environ = {**os.environ, "DLBENCH_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "-c", code, str(count), str(tmp_path / str(count))]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]

    few, many = peaks(600), peaks(55_000)  # 660 MB
    for before, after in zip(few, many, strict=True):
        assert after - before < 64 << 20
