"""The benchmark: its arithmetic, its references, and what it prints of a real run of the smallest kind."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from dlbench import models
from dlbench.bench import (
    charts,
    commands,
    flax_reference,
    lanes,
    operations,
    ours,
    rounds,
    scaling,
    steps,
    tables,
)
from dlbench.cli import main
from dlbench.cli.bench import measure_command
from dlbench.execution import devices
from dlbench.models.counts import Request, count
from dlbench.ops import pooled
from dlbench.studies.designs import grid

HAS_TORCH = importlib.util.find_spec("torch") is not None
TINY = {"train_size": 64, "plain_train_size": 64, "val_size": 32, "sample_s": 0.01, "calls": 5}

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


# Arithmetic


def test_quartiles() -> None:
    assert rounds.quartiles([5.0]) == (5.0, 5.0, 5.0)
    assert rounds.quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == (3.0, 2.0, 4.0)


def test_percentile_is_a_value_that_was_measured() -> None:
    assert rounds.percentile(range(1, 201), 0.99) == 198
    assert rounds.percentile([7.0], 0.99) == 7.0


def test_a_ratio_is_a_geometric_mean_over_rounds_with_students_interval() -> None:
    times, low, high = rounds.ratio([2.0, 8.0], [1.0, 1.0])
    assert times == pytest.approx(4.0)
    half = 12.706204736 * math.log(2)  # t(1) at 97.5 %, times the logarithms' standard error
    assert (math.log(low), math.log(high)) == pytest.approx((math.log(4) - half, math.log(4) + half))
    assert math.isnan(rounds.ratio([3.0], [1.0])[1])


def test_what_slows_a_whole_round_down_cancels() -> None:
    slow = [1.0, 0.3, 0.7]
    assert rounds.ratio([6 * s for s in slow], [2 * s for s in slow]) == pytest.approx((3.0, 3.0, 3.0))


def test_a_reference_is_compared_in_its_best_setting() -> None:
    mine = {
        "training_one_process_a_core": [200.0, 200.0],
        "training_one_thread": [70.0, 70.0],
        "training_all_threads": [120.0, 120.0],
        "evaluation_one_thread": [30.0, 30.0],
        "latency_one_thread": [9.0, 9.0],
    }
    theirs = {
        "training_one_process_a_core": [80.0, 80.0],
        "training_all_threads": [100.0, 100.0],
        "training_one_thread": [40.0, 40.0],
        "evaluation_one_thread": [10.0, 10.0],
        "evaluation_all_threads": [5.0, 5.0],
        "latency_one_thread": [3.0, 3.0],
    }
    found = steps.compare(mine, theirs)
    assert {name: (each["setting"], round(each["faster"], 6)) for name, each in found.items()} == {
        "training_all_cores": ("training_all_threads", 2.0),
        "training_alone": ("training_all_threads", 1.2),
        "evaluation": ("evaluation_one_thread", 3.0),
        "latency": ("latency_one_thread", 3.0),
    }


def test_commands_are_compared_with_both_caches() -> None:
    contenders = {
        commands.COLD: commands.Contender(commands.COLD, [10.0, 10.0]),
        commands.WARM: commands.Contender(commands.WARM, [5.0, 5.0]),
        "other": commands.Contender("other", [20.0, 20.0]),
    }
    found = commands.compare(contenders, "other")
    assert {name: round(each["faster"], 6) for name, each in found.items()} == {
        commands.COLD: 2.0,
        commands.WARM: 4.0,
    }
    assert commands.compare(contenders, commands.COLD) == {}


# Operations


def executed(model: str) -> float:
    """The operations of a training step as dlbench computes it: what XLA must count, activations apart."""
    k = 5 if model == "High-Vision" else 3
    if model == "SimpleCNN":  # Winograd's F(4, 3): six products for twelve
        first, second = 2 * 26**2 * k**2 * 32, 2 * 24**2 * k**2 * 32 * 64
        return 3 * 2 * (12**2 * 64 * 128 + 128 * 10) + 2 * first + 3 * second / 2
    side = 14
    first, second = 2 * 28**2 * k**2 * 16, 2 * side**2 * k**2 * 16 * 32
    products = 3 * 2 * (7**2 * 32 * 128 + 128 * 10)
    packed = (k + 1) ** 2 / k**2  # four positions' kernels, side by side in one matrix
    # A convolution does not multiply by its padding: at each border, k // 2 ... 1 taps of a row are missing.
    inside = (1 - 2 * sum(range(1, k // 2 + 1)) / (side * k)) ** 2
    return products + 2 * first * packed + 3 * second * inside


def some(*quick: str) -> list[Any]:
    """The networks, of which only these are measured in the short suite."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in steps.MODELS]


@pytest.mark.parametrize("model", some("Baseline"))
def test_xla_counts_the_operations_that_are_counted_by_hand(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And up to an eighth more: activations, pooling, batch norm, loss. It cannot count the compiled kernels'."""
    monkeypatch.setattr(pooled, "supports", lambda x, kernel: False)
    assert 1.0 < ours.step_flops(models.create(model)) / executed(model) < 1.125


# References


@pytest.mark.parametrize("name", some("SimpleCNN", "Stabilized"))
def test_plain_flax_computes_the_same(name: str) -> None:
    images = np.random.default_rng(0).uniform(-9, 9, (2, 28, 28, 1)).astype(np.float32)
    mine, plain = models.create(name), flax_reference.create(name)
    variables = quick(mine.init)(jax.random.key(0), images)
    params, stats = {}, {}
    for layer, values in variables["params"].items():
        number = layer[-1]
        if layer.startswith("Dense"):
            params[layer] = values
            continue
        params[f"Conv_{number}"] = {key: values[key] for key in ("kernel", "bias")}
        if "norm" in values:
            params[f"BatchNorm_{number}"] = values["norm"]
            stats[f"BatchNorm_{number}"] = variables["batch_stats"][layer]["norm"]
    np.testing.assert_allclose(
        quick(plain.apply)({"params": params, "batch_stats": stats}, images),
        quick(mine.apply)(variables, images),
        atol=2e-5,
    )


@pytest.fixture
def _one_torch_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")
@pytest.mark.usefixtures("_one_torch_thread")
@pytest.mark.parametrize("variant", range(4))
def test_the_tuned_loop_trains(variant: int) -> None:
    from dlbench import data
    from dlbench.bench import torch_reference

    digits = data.load("mnist5k")
    chosen = torch_reference.VARIANTS[variant]
    x, y = torch_reference.tensors(digits.train_images[:256], digits.train_labels[:256], chosen)
    net = chosen.place(torch_reference.make_torch("Stabilized"))
    tx = torch_reference.make_optimizer(net, "adam", 1e-3, variant=chosen)
    losses = [torch_reference.tuned_epoch(net, tx, x, y, 20)[0] for _ in range(3)]
    loss, accuracy = torch_reference.tuned_evaluation(net, x, y)
    assert losses[0] > losses[1] > losses[2] > loss
    assert accuracy > 0.8


@pytest.mark.parametrize(
    "work", [commands.grid(20), commands.archs(50), commands.trial("Modernist", 3)], ids=lambda w: w.design
)
def test_pytorch_does_the_trials_of_the_command(work: commands.Work) -> None:
    asked = grid(**work.axes).trials
    keys = ("model", "optimizer", "learning_rate", "batch_size", "weight_decay")
    assert {tuple(getattr(trial, key) for key in keys) for trial in asked} == {
        tuple(trial[key] for key in keys) for trial in work.trials
    }
    assert len(asked) == len(work.trials)


# The command


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``dlbench bench`` in this process, in an empty folder, on 64 images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(steps, "Effort", functools.partial(steps.Effort, **TINY))
    monkeypatch.setattr(lanes, "Effort", functools.partial(lanes.Effort, train_size=64, sample_s=0.01))

    def call(*args: str) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main(["bench", *args])
        return Outcome(int(ended.value.code or 0), *capsys.readouterr())

    return call


def test_operations_are_measured_with_the_gradients_that_training_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operations, "_SECONDS", 0.0)
    model = models.create("LeNet-5")
    found = operations.measure(model, (2, 28, 28, 1), 2)
    names = dict.fromkeys(each["operation"] for each in found)
    assert next(iter(names)) == "convolution 5x5, 1 → 6 channels, 2 images of 32x32"
    assert [*names][-1] == "product of 2x84 and 84x10"
    parts = [each["part"] for each in found]
    assert parts[:2] == ["forward", "gradient of the kernel"], "the images themselves need no gradient"
    assert parts[2:] == ["forward", "gradient of the input", "gradient of the kernel"] * (len(names) - 1)
    request = Request("LeNet-5", (), (28, 28, 1), 10)
    counts = count([request])[request]
    assert sum(each["times"] * each["flops"] for each in found) == 2 * counts.training_flops
    assert all(each["seconds"] > 0 for each in found)
    (table,) = tables.operations_report({"batch_size": 2, "peak_flops": 1e15, "models": {"LeNet-5": found}})
    assert isinstance(table, tables.Table)
    assert {row[-1] for row in table.rows} == {"slow"}
    assert sum(row[3] for row in table.rows) == pytest.approx(1)


@pytest.mark.slow
def test_a_real_run(bench: Any, tmp_path: Path) -> None:
    flags = ["--model", "baseline", "--batch-size", "16", "--repeats", "2", "--json", "--chart", "steps.svg"]
    done = bench(*flags, *(["--against", "torch"] if HAS_TORCH else []))
    assert done.code == 0, done.err
    assert "about" in done.err.splitlines()[0]
    assert "1/1: Baseline, batch size 16, sgd" in done.err
    record = json.loads(done.out)
    assert record["benchmark"] == "steps"
    (case,) = record["cases"]
    assert (case["model"], case["batch_size"], case["optimizer"]) == ("Baseline", 16, "sgd")
    assert case["flops_per_image"] == 7_082_496
    assert 0.9 < case["xla_flops_per_image"] / case["flops_per_image"] < 1.2
    mine = case["sides"]["dlbench"]
    helped = ("all_threads",) if devices.count("cpu") > 1 else ()
    settings = itertools.product(("training", "evaluation", "latency"), ("one_thread", *helped))
    names = {"training_one_process_a_core", "peak_flops", *(f"{kind}_{how}" for kind, how in settings)}
    assert {name: len(values) for name, values in mine["samples"].items()} == dict.fromkeys(names, 2)
    assert min(value for values in mine["samples"].values() for value in values) > 0
    assert mine["compile_cold_s"] > mine["compile_cached_s"] > 0
    assert 1e8 < mine["peak_bytes"] < 1e10
    assert mine["latency_p99_s"]["latency_one_thread"] >= 1 / max(mine["samples"]["latency_one_thread"])
    if HAS_TORCH:
        ratios = case["ratios"]["torch"]
        assert set(ratios) == set(steps.COMPARED)
        assert all(each["low"] <= each["faster"] <= each["high"] for each in ratios.values())
    report = tables.steps_report(record)
    assert len(report) == 2 + HAS_TORCH
    for table in report:
        assert isinstance(table, tables.Table)
        assert [row[:3] for row in table.rows] == [("Baseline", 16, "sgd")]
        assert table.texts()
    assert "<svg" in (tmp_path / "steps.svg").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18(width=2)", "bench_net:Net"])
def test_any_model_that_can_be_named_is_measured(bench: Any, tmp_path: Path, model: str) -> None:
    """Against its counterpart in PyTorch, or with jax's own operations."""
    (tmp_path / "bench_net.py").write_text(
        "import flax.linen as nn\n"
        "class Net(nn.Module):\n"
        "    num_classes: int = 10\n"
        "    @nn.compact\n"
        "    def __call__(self, x, train=False):\n"
        "        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))\n"
        "        return nn.Dense(self.num_classes)(x.mean((1, 2)))\n"
    )
    against = "flax" if ":" in model or not HAS_TORCH else "torch"
    done = bench("--model", model, "--batch-size", "16", "--repeats", "1", "--against", against, "--json")
    assert done.code == 0, done.err
    (case,) = json.loads(done.out)["cases"]
    assert case["model"] == model.replace("resnet18", "ResNet-18")
    # XLA counts what is done to each pixel too, which is much beside convolutions of few channels.
    assert 0.2 < case["flops_per_image"] / case["xla_flops_per_image"] < 1.2
    assert case["ratios"][against]["training_alone"]["faster"] > 0
    if ":" in model:
        refused = bench("--model", model, "--against", "torch")
        assert refused.code == 2
        assert "no model in PyTorch to compare 'bench_net:Net' with" in refused.err


@pytest.mark.slow
def test_lanes_are_measured_in_every_form(bench: Any) -> None:
    flags = ["--model", "baseline", "--batch-size", "16", "--lanes", "2", "--device", "cpu", "--repeats", "2"]
    done = bench("lanes", *flags, "--json", *(["--against", "torch"] if HAS_TORCH else []))
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert {case["form"] for case in record["cases"]} == {"vmap", "product", "loop"}
    for case in record["cases"]:
        assert (case["model"], case["batch_size"], case["lanes"]) == ("Baseline", 16, 2)
        assert len(case["samples"]) == 2
        assert min(case["samples"]) > 0
        assert case["bytes"] > case["temporary_bytes"] > 0
        assert case["compile_s"] > 0
    (ratio,) = record["ratios"]
    assert (ratio["ensemble"] is not None) == HAS_TORCH
    ways = [set(case["samples"]) for case in record["torch"]]
    assert ways == ([{"eager"}, {"ensemble"}] if HAS_TORCH else [])
    report = tables.lanes_report(record)
    assert len(report) == 1 + 2 * HAS_TORCH
    assert all(isinstance(table, tables.Table) and table.texts() for table in report)


def test_the_fastest_form_is_compared_with_pytorchs_fastest_way() -> None:
    def case(lanes: int, **more: Any) -> dict[str, Any]:
        return {"model": "Baseline", "batch_size": 8, "lanes": lanes, **more}

    failed = {"failed": "out of memory"}
    mine = [
        case(4, form="vmap", samples=[100.0, 110.0, 90.0]),
        case(4, form="product", samples=[300.0]),
        case(8, form="vmap", **failed),
    ]
    theirs = [
        case(1, samples={"eager": [10.0], "graph": [30.0]}),
        case(4, samples={"ensemble": [50.0]}),
        case(8, **failed),
    ]
    (found,) = lanes.compare(mine, theirs)
    assert found == case(4, form="product", one_at_a_time=10.0, ensemble=6.0)
    record = {
        "device_kind": "cpu",
        "images_per_epoch": 64,
        "cases": [{**each, "bytes": 4_000_000, "compile_s": 1.0} for each in mine],
        "torch": theirs,
        "ratios": [found],
    }
    ours, pytorch, _ = map(str, tables.lanes_report(record))
    assert "out of memory" in ours
    assert "out of memory" in pytorch


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--lanes", "8"], "bench steps does not accept --lanes; leave it out, or use bench lanes"),
        (["lanes", "--lanes", "0"], "--lanes must be a number from 1 to 1,000; got '0'"),
        (["--model", "basline"], "'basline'. Did you mean 'Baseline'?"),
        (
            ["--model", "resnet18(widht=8)"],
            "unknown argument of the model ResNet-18 'widht'. Did you mean 'width'?",
        ),
        (["lanes", "--model", "resnet18"], "unknown network of the benchmark 'resnet18'."),
        (["--batch-size", "0"], "--batch-size must be a number from 1 to 1,000; got '0'"),
        (["--repeats", "many"], "--repeats must be a number from 1 to 1,000; got 'many'"),
        (
            ["--epochs", "3"],
            "bench steps does not accept --epochs; leave it out, or use bench grid or archs or trial",
        ),
        (["scaling", "--against", "torch"], "bench scaling has no reference"),
        (
            ["grid", "--against", "flax"],
            "--against: unknown reference of bench grid 'flax'. Known: torch, original.",
        ),
        (["trial", "--model", "baseline", "simplecnn"], "takes one --model; got Baseline, SimpleCNN"),
        (["--chart", "steps.txt"], "--chart must be a file that ends in .svg, .png, .pdf; got 'steps.txt'"),
        (["--chart", "none/steps.svg"], "the folder none does not exist; create it first"),
        (["--chart", "there.svg"], "--chart there.svg already exists; choose another name"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    bench: Any, tmp_path: Path, args: list[str], said: str
) -> None:
    (tmp_path / "there.svg").write_text("mine")
    done = bench(*args)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert (tmp_path / "there.svg").read_text() == "mine"


def test_without_pytorch_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from dlbench.cli import main; main(['bench', '--against', 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: --against torch needs PyTorch, which is not installed; run pip install 'dlbench[oracle]'\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch")
def test_a_search_is_compared_with_the_loop_of_optuna() -> None:
    pytest.importorskip("optuna", reason="searches need optuna")
    work = commands.search(1, 6)
    work.axes.update(train_size=64, val_size=32)
    record = measure_command(work, ["torch"], 1, print)
    assert record["num_trials"] == 6
    loops = [each for each in record["contenders"] if each["name"].startswith("Optuna around PyTorch")]
    assert loops
    for contender in record["contenders"]:
        (trials,) = contender["trials"]
        assert len(trials) == 6
        assert all(1e-4 <= one["learning_rate"] <= 0.1 for one in trials)
        assert {one["batch_size"] for one in trials} <= {8, 16, 32}
        assert {one["optimizer"] for one in trials} == {"adam"}
    assert set(loops[0]["ratios"]) == {commands.COLD, commands.WARM}


@pytest.mark.slow
def test_whole_commands_run(tmp_path: Path) -> None:
    sizes = {"dataset": "mnist5k", "train_size": 64, "val_size": 32, "batch_size": [16]}
    work = commands.Work("grid", commands.grid(2).axes | sizes)
    record = measure_command(work, ["torch", "original"] if HAS_TORCH else [], 2, print)
    assert record["num_trials"] == 4
    assert len(record["contenders"]) >= (4 if HAS_TORCH else 2)
    for contender in record["contenders"]:
        assert len(contender["wall_s"]) == 2
        assert min(contender["wall_s"]) > 0
        assert 0 < contender["val_accuracy"][0] <= 1
        assert sorted(one["learning_rate"] for one in contender["trials"][1]) == [1e-4, 1e-3, 1e-2, 1e-1]
    (table,) = tables.commands_report(record)
    assert isinstance(table, tables.Table)
    assert len(table.texts()) == len(record["contenders"])
    charts.draw("grid", record, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_scaling_runs(tmp_path: Path) -> None:
    extent = scaling.Extent(1, "mnist5k", (1, 2), 64, (16, 32), (64, 128), (4, 8), 64, 6)
    record = scaling.run(extent, print)
    by_axis: dict[str, list[int]] = {}
    for point in record["points"]:
        assert point["median_s"] > 0
        if point["workers"] == 1:
            by_axis.setdefault(point["axis"], []).append(point["value"])
    assert by_axis == {
        "trials": [1, 2],
        "batch_size": [16, 32],
        "images": [64, 128],
        "parameters": [13_242, 52_138],
    }
    assert "6 trials of one epoch over 64 images" in str(tables.scaling_report(record)[-1])
    charts.draw("scaling", record, tmp_path / "scaling.svg")
    assert (tmp_path / "scaling.svg").exists()
