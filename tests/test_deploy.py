"""Exported networks answer as the trained ones do, in the runtime that they are made for."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_cli import Cli, cli  # noqa: F401

import dlbench
from dlbench.deploy.card import model_card
from dlbench.deploy.export import Budget, export_trial
from dlbench.deploy.latency import measure, side_by_side
from dlbench.errors import InputError
from dlbench.stats.proportions import paired_proportions


def test_the_interval_that_goes_with_mcnemars_test() -> None:
    interval = paired_proportions(9, 4, 100)
    p, q = 10 / 102, 5 / 102
    half = 1.959964 * math.sqrt((p + q - (p - q) ** 2) / 102)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx(
        (0.05, p - q - half, p - q + half)
    )
    same = paired_proportions(0, 0, 1000)
    assert (same.estimate, same.low < 0 < same.high) == (0, True)
    with pytest.raises(InputError, match="counts lie between 0 and n"):
        paired_proportions(3, 3, 5)


def test_latency_is_that_of_one_image_after_another() -> None:
    sizes: list[int] = []

    def run(images: np.ndarray) -> None:
        sizes.append(len(images))

    found = measure(run, np.zeros((3, 2, 2, 1), np.float32), 1)
    assert 0 < found.p50_s <= found.p95_s <= found.p99_s
    assert {*sizes} == {1, 64}
    assert found.images_per_s > 0


def test_networks_are_measured_in_turns() -> None:
    turns: list[str] = []

    def run(name: str) -> Callable[[np.ndarray], None]:
        return lambda images: turns.append(name)

    images = np.zeros((2, 2, 2, 1), np.float32)
    found = side_by_side([run("a"), run("b")], images, 1, 2)
    assert [name for name, _ in itertools.groupby(turns)] == ["a", "b"] * 3  # the first turn warms up
    assert len(found) == 2


@pytest.mark.slow
def test_models_are_compared_side_by_side(cli: Cli) -> None:  # noqa: F811
    flags = ("bench", "latency", "--model", "linear", "lenet5", "--repeats", "1", "--max-size", "100kB")
    done = cli(*flags, "--json")
    assert done.code == 1
    linear, lenet = models = json.loads(done.out)["models"]
    assert (linear["parameters"], lenet["parameters"]) == (7850, 61706)
    assert 0 < linear["p50_s"] <= linear["p95_s"]
    assert [bool(each["over_budget"]) for each in models] == [False, True]
    refused = cli("bench", "latency", "--int8")
    assert (refused.code, "--int8 must be combined with onnx" in refused.err) == (2, True)


def test_what_cannot_be_exported_is_said(small_result: dlbench.StudyResult, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder, trial = str(small_result.folder), small_result.trials[0].id
    for words, message in {
        ("--to", "tflite"): "Known: stablehlo, npz, onnx",
        ("--int8", "--to", "npz"): "--int8 must be combined with onnx; got 'npz'",
        (
            "--max-size",
            "1 bit",
        ): "--max-size must be a number with one of the units B, kB, KB, MB, GB, KiB, MiB, GiB; got",
        ("--threads", "0"): "--threads must be a positive whole number; got 0",
        ("--max-latency", "0ms"): "--max-latency must be more than 0; got 0.0",
        (
            "--max-latency",
            "-1ms",
        ): "--max-latency must be a number with one of the units us, ms, s; got '-1ms'",
        ("--max-size", "0.0MB"): "--max-size must be more than 0; got 0.0",
    }.items():
        done = cli("export", folder, trial, *words)
        assert (done.code, message in done.err) == (2, True), done.err
    assert "no trial whose id begins" in cli("export", folder, "zzz").err
    Path("mine.md").write_text("mine")
    for command in ("export", "card"):
        for name, message in {
            "mine.md": "--out mine.md already exists; choose another name",
            "none/x": "--out none/x: the folder none does not exist; create it first",
            "x" * 300: "--out is too long for a file name",
        }.items():
            done = cli(command, folder, trial, "--out", name)
            assert (done.code, message in done.err) == (2, True), done.err
    assert [(path.name, path.read_text()) for path in Path().iterdir()] == [("mine.md", "mine")]
    if importlib.util.find_spec("onnx") is None:
        said = cli("export", folder, trial, "--to", "onnx").err
        assert "needs onnx and onnxruntime; run pip install 'dlbench[deploy]'" in said


def test_an_npz_file_answers_as_the_network_does(
    small_result: dlbench.StudyResult,
    cli: Cli,  # noqa: F811
    tmp_path: Path,
) -> None:
    trial = small_result.trials[0]
    done = cli("export", str(small_result.folder), trial.id[:6], "--to", "npz", "--max-size", "1kB", "--json")
    record = json.loads(done.out)
    assert (done.code, record["differ"], record["num_images"]) == (1, 0, 1000)
    assert record["accuracy_after"] == record["accuracy_before"] == trial.test_accuracy
    assert record["over_budget"] == [f"size {record['size_bytes'] / 1e6:.3f} MB exceeds 0.001 MB"]
    with np.load(tmp_path / f"{trial.id[:6]}.npz", allow_pickle=False) as arrays:
        assert sum(arrays[name].size for name in arrays.files) == trial.num_params


def everything() -> list[str]:
    small = {
        "ResNet-18": "(width=4)",
        "ResNet-34": "(width=2)",
        "ResNet-20": "(width=4)",
        "ResNet-56": "(width=2)",
        "CIFAR-ResNet": "(depth=8, width=4)",
        "WideResNet": "(depth=10, widen=1)",
        "MobileNetV2": "(width=0.25)",
        "ViT-Tiny": "(depth=1, width=12)",
        "VGG": "(width=4)",
        "VGG-11": "(width=4)",
        "VGG-16": "(width=4)",
    }
    from dlbench.spec.registry import MODELS

    quick = ("Stabilized",)
    return [
        pytest.param(name + small.get(name, ""), marks=() if name in quick else pytest.mark.slow)
        for name in MODELS.built_in
    ]


@pytest.mark.parametrize("name", everything())
def test_every_model_is_written_as_onnx(name: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra deploy is not installed")
    onnxruntime = pytest.importorskip("onnxruntime")
    import jax
    import jax.numpy as jnp

    from dlbench.deploy.onnx_graph import to_onnx
    from dlbench.models import create
    from dlbench.models.network import Variables, network_of

    shape = (32, 32, 3) if name != "Stabilized" else (8, 8, 1)
    network = network_of(create(name))
    key = jax.random.key(0)
    made = network.init({"params": key, "dropout": key}, jnp.zeros((1, *shape)), {})
    variables = Variables(made.params, jax.tree.map(lambda a: a + 0.3, made.batch_stats))

    def logits(images: Any) -> Any:
        return network.apply(variables, images, {})[0]

    written = to_onnx(logits, shape, "0")
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = np.random.default_rng(count).uniform(-1, 1, (count, *shape)).astype(np.float32)
        expected = np.asarray(jax.jit(logits)(images))
        got = session.run(None, {"images": images})[0]
        assert np.abs(got - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    names = [node.op_type for node in onnx.load_from_string(written).graph.node]
    if name == "Stabilized":
        assert sorted(names) == sorted(
            ["Transpose", "Conv", "MaxPool", "Relu"] * 2 + ["Reshape", "Gemm", "Relu", "Gemm", "Identity"]
        ), "batch norm is folded, and pooling is one operator"


def test_what_onnx_lacks_is_named() -> None:
    import jax.numpy as jnp

    from dlbench.deploy.onnx_graph import to_onnx

    with pytest.raises(
        InputError, match=r"the operation cumsum, which cannot be written as ONNX; export it to"
    ):
        to_onnx(lambda x: jnp.cumsum(x, 1).sum((1, 2)), (4, 4, 2), "0")


@pytest.mark.slow
@pytest.mark.parametrize(("to", "int8"), [("onnx", False), ("onnx", True), ("stablehlo", False)])
def test_a_trial_is_exported_and_run(
    small_result: dlbench.StudyResult, tmp_path: Path, to: Any, int8: bool
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    pytest.importorskip("flatbuffers")
    trial, out = small_result.trials[0], tmp_path / f"net.{to}"
    done = export_trial(small_result.folder, trial.id, to, out, int8=int8)
    assert done.accuracy_before == trial.test_accuracy
    assert done.size_bytes == out.stat().st_size
    if int8:
        assert done.size_bytes < 300_000 < 4 * trial.num_params
        assert abs(done.change.estimate) < 0.05
        assert done.change.estimate == pytest.approx(done.accuracy_after - done.accuracy_before)
    else:
        assert (done.differ, done.accuracy_after) == (0, trial.test_accuracy)
    assert done.over(Budget()) == ()
    assert len(done.over(Budget(1e-9, 1))) == 2


@pytest.mark.slow
def test_images_of_another_range_are_brought_to_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    study = dlbench.grid(
        model="Stabilized", normalize="dataset", train_size=72, val_size=32, batch_size=16, num_epochs=1
    )
    result = dlbench.run(study, workers=1, out=tmp_path / "s")
    for to in ("onnx", "npz"):
        done = export_trial(result.folder, result.trials[0].id, to, tmp_path / f"net.{to}")
        assert (done.differ, done.accuracy_after) == (0, result.trials[0].test_accuracy)


def test_the_model_card_has_what_the_hub_reads(
    small_result: dlbench.StudyResult,
    cli: Cli,  # noqa: F811
    tmp_path: Path,
) -> None:
    trial = small_result.trials[0]
    assert cli("card", str(small_result.folder), trial.id, "--out", "README.md").code == 0
    text = (tmp_path / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("dlbench", "image-classification")
    (entry,) = metadata["model-index"]
    (result,) = entry["results"]
    assert {"type", "name"} <= {*result["dataset"]}
    values = {each["type"]: each["value"] for each in result["metrics"]}
    assert values["accuracy"] == pytest.approx(trial.test_accuracy)
    assert values["f1"] == pytest.approx(trial.macro_f1, abs=1e-6)
    assert re.findall("^#.*", body, re.MULTILINE) == [
        "# Baseline on mnist5k",
        "## Evaluation",
        "### Calibration",
        "## Training",
        "## Limits",
        "## Identity",
    ]
    assert f"dlbench replay {small_result.folder} {trial.id}" in body
    assert "(underfitting)" in body
    assert "dlbench replay" not in model_card(small_result.folder, trial.id)
