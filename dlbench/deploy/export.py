"""Export a trained trial to a file that another runtime runs. No jax: a process of its own does it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlbench import files
from dlbench.deploy.latency import Latency
from dlbench.errors import InputError, WorkerError
from dlbench.records import TrialStatus
from dlbench.spec import registry
from dlbench.stats import Interval, McNemar, mcnemar
from dlbench.stats.proportions import paired_proportions
from dlbench.storage.results import TrialResult
from dlbench.storage.store import Store
from dlbench.studies.replay import find

Kind = Literal["stablehlo", "npz", "onnx"]
#: What each kind of file needs beside dlbench.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "stablehlo": ("flatbuffers",),
    "npz": (),
    "onnx": ("onnx", "onnxruntime"),
}


@dataclass(frozen=True)
class Budget:
    """What a device allows.

    Attributes:
        max_latency_s: of one image, which 95 % of the calls have to meet; ``None`` for any.
        max_size_bytes: of the file; ``None`` for any.

    Raises:
        InputError: one is not more than 0.
    """

    max_latency_s: float | None = None
    max_size_bytes: float | None = None

    def __post_init__(self) -> None:
        for field, most in {"max_latency": self.max_latency_s, "max_size": self.max_size_bytes}.items():
            if most is not None and not most > 0:
                raise InputError.must_be(field, "more than 0", most)

    def exceeded(self, latency: Latency, size_bytes: int) -> tuple[str, ...]:
        """What of it is exceeded, in words."""
        said = []
        if self.max_latency_s is not None and latency.p95_s > self.max_latency_s:
            said.append(f"latency p95 {1e3 * latency.p95_s:.2f} ms exceeds {1e3 * self.max_latency_s:g} ms")
        if self.max_size_bytes is not None and size_bytes > self.max_size_bytes:
            said.append(f"size {size_bytes / 1e6:.3f} MB exceeds {self.max_size_bytes / 1e6:g} MB")
        return tuple(said)


@dataclass(frozen=True)
class Exported:
    """An exported network, and what its own runtime made of the test images.

    Attributes:
        trial: the trial.
        path: the file.
        kind: "stablehlo", "npz" or "onnx".
        int8: whether it computes in int8.
        size_bytes: bytes of the file.
        num_images: number of test images.
        differ: for how many of them the file predicts another class than the trained network; 0 unless it computes in
            int8, or two logits tie.
        max_difference: the largest difference between two logits.
        accuracy_before: test accuracy of the trained network.
        accuracy_after: test accuracy of the file.
        change: the second minus the first, with its interval over images.
        test: McNemar's test of both.
        latency: measured times.
    """

    trial: TrialResult
    path: Path
    kind: str
    int8: bool
    size_bytes: int
    num_images: int
    differ: int
    max_difference: float
    accuracy_before: float
    accuracy_after: float
    change: Interval
    test: McNemar
    latency: Latency

    def over(self, budget: Budget) -> tuple[str, ...]:
        """What of a budget it exceeds, in words."""
        return budget.exceeded(self.latency, self.size_bytes)


def export_trial(
    folder: Path | str,
    trial_id: str,
    to: Kind,
    out: Path | str,
    *,
    int8: bool = False,
    threads: int = 1,
    data_dir: str | None = None,
) -> Exported:
    """Export a trial's best network, run the file by its own runtime on the test images, and measure it.

    The file takes float32 images [N, H, W, C] in [-1, 1], for any N, and returns logits. StableHLO is what
    ``jax.export`` writes and ``jax.export.deserialize`` reads; npz holds the parameters by their path.

    Args:
        folder: the study's folder.
        trial_id: the trial's id, or the beginning of it.
        to: the kind of file.
        out: the file.
        int8: whether an ONNX file computes in int8, calibrated on validation images.
        threads: threads that its runtime may use.
        data_dir: folder of the user's data sets.

    Raises:
        InputError: there is no such trial, it did not complete, a package is missing, or its model has an operation
            that ONNX lacks; or the file exists, or its folder does not.
        StoreError: the folder holds no study.
        WorkerError: the file predicts other classes than the trained network.
    """
    _check(to, int8, threads)
    files.check_new(Path(out))
    folder = Path(folder)
    with Store(folder) as store:
        trial = find(store.results(), trial_id, folder)
    if trial.status is not TrialStatus.COMPLETE:
        raise InputError(f"trial {trial.id} has diverged, so it has no network to export")
    registry.MODELS.check_trusted(trial.model, "model")
    users = registry.import_path([trial.model])
    found = _answer(
        {
            "folder": str(trial.folder.absolute()),
            "to": to,
            "int8": int8,
            "out": str(Path(out).absolute()),
            "threads": threads,
            "data_dir": data_dir,
            "path": users,
            "model": trial.model if users else None,
        },
        threads,
    )
    before, after = found.pop("correct_before"), found.pop("correct_after")
    found.pop("opset")
    test = mcnemar(after, before)
    return Exported(
        trial,
        Path(out),
        to,
        int8,
        accuracy_before=sum(before) / len(before),
        accuracy_after=sum(after) / len(after),
        change=paired_proportions(test.only_a_correct, test.only_b_correct, len(before)),
        test=test,
        latency=Latency(**found.pop("latency")),
        **found,
    )


@dataclass(frozen=True)
class Served:
    """A model as a file of a runtime, and how long that takes.

    Attributes:
        model: the model, with its arguments.
        parameters: number of its parameters.
        size_bytes: bytes of the file.
        latency: measured times.
    """

    model: str
    parameters: int
    size_bytes: int
    latency: Latency


def latencies(
    models: Sequence[str],
    to: Kind,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    int8: bool = False,
    threads: int = 1,
    rounds: int = 3,
) -> list[Served]:
    """Export models that are not trained, run the files by their runtime in turns, and measure them.

    Args:
        models: the models, with their arguments.
        to: as in :func:`export_trial`.
        image_shape: height, width and channels of the images.
        num_classes: number of classes.
        int8: as in :func:`export_trial`.
        threads: likewise.
        rounds: how often each model has its turn.

    Raises:
        InputError: a package is missing, a model cannot be made, or has an operation that ONNX lacks.
    """
    _check(to, int8, threads)
    found = _answer(
        {
            "models": list(models),
            "to": to,
            "int8": int8,
            "threads": threads,
            "rounds": rounds,
            "image_shape": list(image_shape),
            "num_classes": num_classes,
            "path": registry.import_path(models),
        },
        threads,
    )
    return [Served(**each | {"latency": Latency(**each["latency"])}) for each in found["models"]]


def _check(to: str, int8: bool, threads: int) -> None:
    if to not in _NEEDS:
        raise InputError.must_be("to", f"one of {', '.join(_NEEDS)}", to)
    if int8 and to != "onnx":
        raise InputError.must_be("int8", "combined with onnx", to)
    if threads < 1:
        raise InputError.must_be("threads", "a positive whole number", threads)
    if missing := [name for name in _NEEDS[to] if importlib.util.find_spec(name) is None]:
        raise InputError(
            f"exporting to {to} needs {' and '.join(missing)}",
            field="to",
            value=to,
            remedy="run pip install 'dlbench[deploy]'",
        )


def _answer(asked: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Ask a process, whose jax uses so many threads."""
    one = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {one} intra_op_parallelism_threads={threads}".strip()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dlbench.deploy.exporting"],
        input=json.dumps(asked),
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise WorkerError(f"the trial cannot be exported: {last}") from None
    if "error" in told:
        kind = InputError if told["code"] == 2 else WorkerError
        raise kind(told["error"], field=told["field"])
    answer: dict[str, Any] = told["answer"]
    return answer
