"""Check and measure dlbench on a GPU: ``python tests/gpu_check.py --out gpu.json``.

Not collected by pytest. Each part runs in a process of its own and within its own time; what it has found by then is
kept, and a failure is recorded with its traceback while the others go on. The file is rewritten while a part runs.
``--device cpu`` runs everything on small sizes, to check this script itself.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

#: The parts in their order, and the seconds that each may take.
PARTS = {"environment": 40, "study": 130, "oracle": 50, "lanes": 140, "determinism": 85, "resnet": 100}
NETWORKS = ("Baseline", "SimpleCNN", "Stabilized", "High-Vision", "Modernist")
LOWERINGS = ("lax", "product")


class Part:
    """What a part runs with: device, time, and the file into which it writes what it has found so far."""

    def __init__(self, device: str, seconds: float, out: Path) -> None:
        self.device, self.out = device, out
        self.until = time.monotonic() + seconds
        self.found: dict[str, Any] = {}
        self.small = device == "cpu"

    @property
    def left(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self.until - time.monotonic())

    def save(self) -> None:
        """Write what was found."""
        scratch = self.out.with_suffix(".new")
        scratch.write_text(json.dumps(self.found, default=str))
        scratch.replace(self.out)

    def attempt(self, name: str, call: Any, *args: Any) -> Any:
        """Keep what a call returns under a name, or the traceback of its failure."""
        start = time.monotonic()
        try:
            self.found[name] = call(*args)
        except Exception:
            self.found[name] = {"failed": traceback.format_exc()[-3000:]}
        self.found.setdefault("seconds", {})[name] = round(time.monotonic() - start, 2)
        self.save()
        return self.found[name]


def environ(device: str, cache: str, **more: str) -> dict[str, str]:
    """The environment of a process that computes as a worker does, with a cache of its own."""
    from dlbench.execution.environment import configure

    made = dict(os.environ)
    configure(made, device)
    path = os.pathsep.join(
        [str(ROOT), *filter(None, map(absolute, os.environ.get("PYTHONPATH", "").split(os.pathsep)))]
    )
    return made | {"JAX_COMPILATION_CACHE_DIR": cache, "PYTHONPATH": path} | more


def absolute(path: str) -> str:
    """The path, absolute; empty if it is."""
    return str(Path(path).resolve()) if path else ""


def child(part: Part, name: str, seconds: float, *words: str, **variables: str) -> dict[str, Any]:
    """Run another part in a process of its own; what it found, and its last words if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [
            sys.executable,
            str(ROOT / "tests" / "gpu_check.py"),
            "--part",
            name,
            "--device",
            part.device,
        ]
        command += ["--seconds", str(seconds), "--out", str(out), *words]
        code, text, _ = finished(command, seconds + 5, environ(part.device, f"{folder}/cache", **variables))
        found = json.loads(out.read_text()) if out.exists() else {}
        return found | ({"exit_code": code, "output": text[-2000:]} if code else {})


def finished(
    command: list[str], seconds: float, environment: dict[str, str], cwd: str | None = None
) -> tuple[int | None, str, str]:
    """Exit code (``None``: killed, too slow), standard error and standard output of a process."""
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=errors, cwd=cwd, start_new_session=True
        )
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(max(1.0, seconds))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        texts = []
        for file in (errors, output):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return code, texts[0], texts[1]


# The environment: what is there, and whether float32 is float32


def environment(part: Part) -> None:
    """Versions, devices, what the command says, and the error of float32 products."""
    from dlbench.execution import devices

    part.attempt("device", devices.device, part.device)
    part.attempt("gpus", devices.gpus)
    part.attempt("cores", devices.count, "cpu")
    if not part.small:
        part.attempt(
            "nvidia_smi", lambda: subprocess.run(["nvidia-smi"], capture_output=True, text=True).stdout
        )
    with tempfile.TemporaryDirectory() as folder:
        variables = environ(part.device, f"{folder}/cache")
        words = [sys.executable, "-P", "-m", "dlbench", "info"]
        part.attempt("info", lambda: finished(words, 60, variables, folder))
    part.attempt("precision", lambda: child(part, "precision", part.left))


def precision(part: Part) -> None:
    """Errors of float32 products and convolutions, relative to the largest result, as pinned and with jax's default."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dlbench import ops
    from dlbench.execution import environment as settings

    part.found["described"] = settings.describe()
    part.found["memory"] = {k: v for k, v in (jax.devices()[0].memory_stats() or {}).items() if "limit" in k}
    part.attempt("checked", settings.check_settings, "")
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((512, 512)).astype(np.float32) for _ in range(2))
    x = generator.standard_normal((4, 16, 14, 14, 16)).astype(np.float32)
    kernel = generator.standard_normal((4, 3, 3, 16, 32)).astype(np.float32)
    g = generator.standard_normal((4, 16, 14, 14, 32)).astype(np.float32)

    def convolution(how: str, lanes: bool) -> Any:
        def value(x: Any, kernel: Any, g: Any) -> Any:
            y, vjp = jax.vjp(lambda *both: ops.conv2d(*both, padding="SAME", lowering=how), x, kernel)
            return (y, *vjp(g))

        return jax.vmap(value) if lanes else lambda x, kernel, g: value(x[0], kernel[0], g[0])

    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(i, j) for i in range(3) for j in range(3)]
    wide = kernel.astype(np.float64)
    y = sum(
        np.einsum("lnhwc,lco->lnhwo", padded[:, :, i : i + 14, j : j + 14], wide[:, i, j]) for i, j in taps
    )
    back = np.pad(g.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    dx = sum(
        np.einsum("lnhwo,lco->lnhwc", back[:, :, 2 - i : 16 - i, 2 - j : 16 - j], wide[:, i, j])
        for i, j in taps
    )
    dk = np.stack(
        [np.einsum("lnhwc,lnhwo->lco", padded[:, :, i : i + 14, j : j + 14], g) for i, j in taps], axis=1
    ).reshape(kernel.shape)
    truth = {"y": y, "dx": dx, "dk": dk}

    def error(found: Any, true: Any) -> float:
        return float(np.abs(np.asarray(found, np.float64) - true).max() / np.abs(true).max())

    for name, value in (("pinned", jax.config.jax_default_matmul_precision), ("default", None)):
        with jax.default_matmul_precision(value):
            errors = {"dot": error(jax.jit(lambda a, b: jnp.dot(a, b))(a, b), a.astype(np.float64) @ b)}
            for how in LOWERINGS:
                for lanes in (False, True):
                    outputs = jax.jit(convolution(how, lanes))(x, kernel, g)
                    for (what, true), got in zip(truth.items(), outputs, strict=True):
                        errors[f"{how}, {'lanes' if lanes else 'alone'}, {what}"] = error(
                            got, true if lanes else true[0]
                        )
        part.found[name] = {"precision": value, "errors": errors, "worst": max(errors.values())}
        part.save()


# Against PyTorch in float64


def oracle(part: Part) -> None:
    """Twenty steps of each network in float32, in both lowerings, against PyTorch in float64."""
    import jax
    import numpy as np
    import test_oracle as reference

    from dlbench import ops
    from dlbench.training import loop
    from dlbench.training.state import Data, Hyper

    names = reference.NAMES[1:2] if part.small else reference.NAMES
    images, labels = reference.digits()
    keys = loop.purpose_keys(jax.random.key(7))
    order = np.asarray(loop.permutation(jax.random.fold_in(keys.order, 1), reference.COUNT))
    data = Data(images, labels, images[:1], labels[:1])
    train = jax.jit(reference.train_dlbench, static_argnames="static")
    lowered = {}
    for name in names:  # tracing replaces functions of the loop: one at a time
        params, stats = (
            reference.cast(tree, np.float32) for tree in reference.to_flax(reference.make_torch(name))
        )
        static = reference.without_dropout(name)
        for how in LOWERINGS:
            hyper = Hyper(np.float32(0.01), np.float32(0))
            with ops.lowered(how):
                lowered[name, how] = train.lower(static, np.int32(0), params, stats, data, keys, hyper)
    part.found["results"] = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = {key: pool.submit(each.compile) for key, each in lowered.items()}
        for (name, how), future in compiled.items():
            for optimizer in reference.OPTIMIZERS:
                net = reference.make_torch(name)
                start, stats = reference.to_flax(net)
                theirs = reference.train_torch(net, optimizer, "none", images, labels, order)
                mode = np.int32(reference.MODES.index((optimizer, "decoupled")))
                hyper = Hyper(np.float32(reference.LEARNING_RATE[optimizer]), np.float32(0))
                params, stats = (reference.cast(tree, np.float32) for tree in (start, stats))
                try:
                    ours = future.result(part.left)(mode, params, stats, data, keys, hyper)
                    found = reference.difference(start, jax.device_get(ours), theirs)
                    result = {
                        "first_loss": float(found.losses[0]),
                        "losses": float(found.losses.max()),
                        "first_params": float(max(error[0] for error in found.params.values())),
                        "params": float(max(error.max() for error in found.params.values())),
                        "accuracy": float(found.accuracy),
                        "mean": float(found.mean),
                        "var": float(found.var),
                    }
                except Exception:
                    result = {"failed": traceback.format_exc()[-2000:]}
                part.found["results"][f"{name}, {how}, {optimizer}"] = result
                part.save()
    worst = [each["params"] for each in part.found["results"].values() if "params" in each]
    part.found["worst"] = max(worst, default=None)
    part.found["median"] = statistics.median(worst) if worst else None
    part.save()


# Determinism


FLAGS = {"as pinned": "", "autotuned": "--xla_gpu_deterministic_ops=false"}


def determinism(part: Part) -> None:
    """Digests of parameters, twice each in fresh processes with cold caches, with and without XLA's flag."""
    runs = [(flags, number) for flags in FLAGS for number in (1, 2)]

    def run(flags: str, number: int) -> dict[str, Any]:
        more = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"}
        said = " ".join(filter(None, (os.environ.get("XLA_FLAGS"), FLAGS[flags])))
        return child(part, "digests", part.left - 8, **more, **({"XLA_FLAGS": said} if said else {}))

    at_once = 1 if part.small else len(runs)
    runs = runs[:2] if part.small else runs
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for (flags, number), found in zip(runs, pool.map(lambda each: run(*each), runs), strict=True):
            part.found[f"{flags} {number}"] = found
            part.save()
    for flags in FLAGS:
        first, second = (part.found.get(f"{flags} {number}", {}).get("digests", {}) for number in (1, 2))
        both = sorted(first.keys() & second.keys())
        part.found[f"{flags}: equal in two processes"] = {
            key: first[key]["params"] == second[key]["params"]
            for key in both
            if "params" in first[key] and "params" in second[key]
        }
    part.save()


def digests(part: Part) -> None:
    """Digests of the parameters after two epochs, for each network, number of lanes and lowering; see determinism."""
    import jax
    import numpy as np

    from dlbench.bench.lanes_subject import Compiled, Lanes

    networks = NETWORKS[:1] if part.small else NETWORKS
    counts = (4, 1) if part.small else (8, 1, 64)
    subject = Lanes()
    subject.prepare(64)
    part.found["digests"] = {}

    def run(program: Compiled, arguments: Any) -> Any:
        state, *inputs = arguments
        for _ in range(2):
            state, _, _ = program.call(state, *inputs)
        return jax.device_get((state.params, state.batch_stats))

    def digest(tree: Any) -> str:
        return hashlib.sha256(
            b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))
        ).hexdigest()[:16]

    def equal(a: Any, b: Any) -> bool:
        return digest(a) == digest(b)

    def moved(arguments: Any, change: Any) -> Any:
        state, data, keys, hyper = arguments
        indices = data.train_indices, data.val_indices
        state, indices, keys, hyper = jax.tree.map(change, (state, indices, keys, hyper))
        return state, data._replace(train_indices=indices[0], val_indices=indices[1]), keys, hyper

    def check(program: Compiled, lanes: int) -> dict[str, Any]:
        arguments = program.arguments()
        first = run(program, arguments)
        found: dict[str, Any] = {"params": digest(first), "compile_s": program.seconds}
        found["equal_in_process"] = equal(first, run(program, arguments))
        if lanes > 1:
            order = np.roll(np.arange(lanes), 3)
            back = np.argsort(order)
            rolled = run(program, moved(arguments, lambda leaf: leaf[order]))
            found["equal_at_another_place"] = equal(first, jax.tree.map(lambda leaf: leaf[back], rolled))
            others = np.concatenate([[0], np.roll(np.arange(1, lanes), 1)])  # lane 0 stays, the others change
            changed = run(program, moved(arguments, lambda leaf: leaf[others]))
            found["equal_beside_others"] = equal(
                *(jax.tree.map(lambda leaf: leaf[0], each) for each in (first, changed))
            )
            found["lanes_differ"] = not equal(
                jax.tree.map(lambda leaf: leaf[0], first), jax.tree.map(lambda leaf: leaf[1], first)
            )
        return found

    with concurrent.futures.ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 3)) as pool:
        made = {
            (name, lanes, how): pool.submit(
                subject.program, name, 8, "adam", lanes, "product" if how == "product" else "vmap"
            )
            for lanes in counts
            for name in networks
            for how in LOWERINGS
        }
        for (name, lanes, how), future in made.items():
            key = f"{name}, {lanes} lanes, {how}"
            try:
                part.found["digests"][key] = check(future.result(part.left), lanes)
            except Exception:
                part.found["digests"][key] = {"failed": traceback.format_exc()[-1500:]}
                if not part.left:
                    part.save()
                    os._exit(0)  # without waiting for what is being compiled
            part.save()


# Throughput


def lanes(part: Part) -> None:
    """``dlbench bench lanes``."""
    from dlbench.bench import lanes as bench

    if part.small:
        chosen = bench.cases(["Baseline"], [16], "sgd", [1, 2])
        effort = bench.Effort(2, 64, 0.01, part.left)
    else:
        chosen = [
            case
            for case in bench.cases(["Baseline", "Stabilized", "SimpleCNN"], [8, 64], "sgd", [64, 512, 8, 1])
            if case.form == "product" or (case.model == "Baseline" and case.batch_size == 8)
        ]
        effort = bench.Effort(3, 512, 0.15, part.left - 4)

    def keep(record: dict[str, Any]) -> None:
        part.found = record
        part.save()

    bench.run(chosen, part.device, ["torch"], effort, lambda text: print(text, file=sys.stderr), keep)


# Whole studies


def study(part: Part) -> None:
    """The command itself: a grid of 20 trials, cold and warm, and as many trials as fit into one program."""
    with tempfile.TemporaryDirectory() as folder:
        count, lanes, rates = (4, 8, 4) if part.small else (4, 512, 16)
        small = ["--batch-size", "8", "--dataset", "mnist5k"]
        small += ["--train-size", "64", "--val-size", "16", "--epochs", "2"] if part.small else []
        small += [] if part.small else ["--train-size", "800", "--val-size", "100", "--epochs", "5"]
        grid = ["grid", "--model", "baseline", *small, "--lr", "1e-4", "3e-4", "1e-3", "3e-3", "1e-2"]
        grid += ["--seeds", str(count)]
        axis = [f"{10 ** (-4 + 2 * i / (rates - 1)):.3g}" for i in range(rates)]
        many = ["grid", "--model", "baseline", *small, "--lr", *axis, "--seeds", str(lanes // rates)]
        many += ["--lanes", str(lanes)]
        on = ["--device", part.device]
        part.attempt("20 trials, cold", command, part, folder, "a", [*grid, *on])
        part.attempt("20 trials, warm", command, part, folder, "b", [*grid, *on])
        if not part.small:
            words = ["replay", f"{folder}/a", "--sample", "1", "--json"]
            part.attempt("replay", run_dlbench, part, folder, words)
        part.attempt(f"{lanes} trials, cold", command, part, folder, "c", [*many, *on])
        part.attempt("PyTorch", lambda: child(part, "torch_trials", min(25.0, part.left)))
        for name, words, least in (
            (f"{lanes} trials, warm", [*many, *on], 12),
            ("20 trials, CPU, cold", [*grid, "--device", "cpu"], 18),
            ("20 trials, CPU, warm", [*grid, "--device", "cpu"], 8),
        ):
            if part.left > least:
                part.attempt(name, command, part, folder, name.replace(" ", "-"), words)
    first, second = (part.found[f"20 trials, {cache}"].get("params_sha256") for cache in ("cold", "warm"))
    part.found["cold and warm have equal bits"] = bool(first) and first == second
    part.save()


def run_dlbench(part: Part, folder: str, words: list[str]) -> dict[str, Any]:
    """Run a command; its wall clock, and what it printed."""
    from dlbench import files

    variables = environ(part.device, f"{folder}/xla") | {files.CACHE_DIR_VARIABLE: f"{folder}/cache"}
    start = time.perf_counter()
    code, errors, output = finished(
        [sys.executable, "-P", "-m", "dlbench", *words], part.left, variables, folder
    )
    spent = time.perf_counter() - start
    return {"wall_s": spent, "exit_code": code, "errors": errors[-3000:], "output": output[-3000:]} | (
        {"whole": output} if code == 0 else {}
    )


def command(part: Part, folder: str, name: str, words: list[str]) -> dict[str, Any]:
    """Train a study; its wall clock, seconds by kind, accuracy and digests."""
    out = ["--out", f"{folder}/{name}", "--json", "--quiet", "--yes"]
    done = run_dlbench(part, folder, [*words, *out])
    whole = done.pop("whole", None)
    if whole is None:
        return {"failed": done["errors"] or "too slow", **done}
    trials = json.loads(whole)["trials"]
    done.pop("output")
    kinds = [key for key in trials[0] if key.endswith("_time_s")]
    return done | {
        "num_trials": len(trials),
        "trials_per_hour": 3600 * len(trials) / done["wall_s"],
        "statuses": sorted({str(trial.get("status")) for trial in trials}),
        "errors_of_trials": [trial["error"] for trial in trials if trial.get("error")][:2],
        "lanes": sorted({trial.get("lanes", 1) for trial in trials}),
        "seconds": {kind: math.fsum(trial[kind] or 0 for trial in trials) for kind in kinds},
        "test_accuracy": [trial.get("test_accuracy") for trial in trials][:20],
        "params_sha256": hashlib.sha256(
            "".join(str(t.get("params_sha256")) for t in trials).encode()
        ).hexdigest(),
        "device": sorted({str(trial.get("device")) for trial in trials}),
        "environment": sorted({str(trial.get("environment")) for trial in trials}),
    }


def torch_trials(part: Part) -> None:
    """The same trials in PyTorch, one after the other on the same device, step by step and as a CUDA graph."""
    import torch
    from torch import nn

    from dlbench.bench.torch_lanes import Networks
    from dlbench.bench.torch_reference import VARIANTS

    size, batch, epochs = (64, 8, 2) if part.small else (800, 8, 5)
    networks = Networks()
    networks.prepare(size, part.device)
    step = networks.one("Baseline", batch, "adam")
    variant = networks.variant
    assert variant in VARIANTS
    del step
    images = networks.images(variant)

    def trial(captured: bool) -> float:
        start = time.perf_counter()
        step = networks.step_of("Baseline", "adam", variant, capturable=captured)
        if captured:
            step = networks.captured(step, networks.indices(1)[:batch])
        for _ in range(epochs):
            networks.net.train()
            for indices in networks.indices(1).split(batch):
                step(indices)
            networks.net.eval()
            with torch.inference_mode():
                logits = networks.net(images[0][:100])
                float(nn.functional.cross_entropy(logits, images[1][:100]))
        networks.wait()
        return time.perf_counter() - start

    for name, captured in (("eager", False), ("graph", True)):
        if captured and part.small:
            continue
        try:
            trial(captured)
            spent: list[float] = []
            while len(spent) < 3 or (part.left > 5 and len(spent) < 5):
                spent.append(trial(captured))
            median = statistics.median(spent)
            part.found[name] = {"trial_s": spent, "trials_per_hour": 3600 / median}
        except Exception:
            part.found[name] = {"failed": traceback.format_exc()[-2000:]}
        part.save()
    part.found["variant"] = str(variant)
    part.save()


# ResNet-18


def resnet(part: Part) -> None:
    """ResNet-18 on images of CIFAR's shape: jax, then PyTorch."""
    part.attempt("jax", lambda: child(part, "resnet_jax", part.left * 0.4))
    tuned = {"XLA_FLAGS": FLAGS["autotuned"]} if part.device == "gpu" else {}
    part.attempt("jax, autotuned", lambda: child(part, "resnet_jax", part.left * 0.45, **tuned))
    part.attempt("torch", lambda: child(part, "resnet_torch", part.left - 6))


def resnet_sizes(part: Part) -> tuple[int, int, int, int]:
    """Number of images, batch size, width and steps of a sample."""
    return (64, 8, 8, 2) if part.small else (50_000, 128, 64, 60)


def resnet_jax(part: Part) -> None:
    """Images per second of training with plain Flax layers: float32, TF32 and bfloat16."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    count, batch, width, steps = resnet_sizes(part)

    class Block(nn.Module):
        features: int
        stride: int
        dtype: Any

        @nn.compact
        def __call__(self, x: Any) -> Any:
            def norm() -> Any:
                return nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, dtype=self.dtype)

            def conv(side: int, stride: int) -> Any:
                return nn.Conv(
                    self.features, (side, side), stride, side // 2, use_bias=False, dtype=self.dtype
                )

            y = nn.relu(norm()(conv(3, self.stride)(x)))
            y = norm()(conv(3, 1)(y))
            if self.stride > 1 or x.shape[-1] != self.features:
                x = norm()(conv(1, self.stride)(x))
            return nn.relu(x + y)

    class ResNet18(nn.Module):
        dtype: Any

        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.Conv(width, (3, 3), padding=1, use_bias=False, dtype=self.dtype)(x)
            x = nn.relu(nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, dtype=self.dtype)(x))
            for stage in range(4):
                for block in range(2):
                    x = Block(width * 2**stage, 2 if stage and not block else 1, self.dtype)(x)
            return nn.Dense(10, dtype=jnp.float32)(x.mean((1, 2)).astype(jnp.float32))

    generator = np.random.default_rng(0)
    images = jax.device_put(generator.integers(0, 256, (count, 32, 32, 3), np.uint8))
    labels = jax.device_put(generator.integers(0, 10, count).astype(np.int32))
    tx = optax.sgd(0.1, 0.9)

    def epoch_of(model: Any) -> Any:
        def epoch(carry: Any, images: Any, labels: Any, key: Any) -> Any:
            order = jax.random.permutation(key, count)[: steps * batch].reshape(steps, batch)

            def step(carry: Any, places: Any) -> Any:
                params, stats, state = carry
                x = (images[places].astype(jnp.float32) / 255 - 0.5) / 0.5

                def loss_of(params: Any) -> Any:
                    logits, new = model.apply(
                        {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
                    )
                    return (
                        optax.softmax_cross_entropy_with_integer_labels(logits, labels[places]).mean(),
                        new["batch_stats"],
                    )

                (loss, new), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
                updates, state = tx.update(grads, state, params)
                return (optax.apply_updates(params, updates), new, state), loss

            return jax.lax.scan(step, carry, order)

        return epoch

    key = jax.random.key(0)
    shapes = jax.eval_shape(ResNet18(jnp.float32).init, key, jnp.zeros((1, 32, 32, 3)))

    def initial(path: Any, leaf: Any) -> Any:
        name = path[-1].key
        if name == "kernel":
            return generator.normal(0, (2 / math.prod(leaf.shape[:-1])) ** 0.5, leaf.shape).astype(np.float32)
        return np.full(leaf.shape, name in ("scale", "var"), np.float32)

    variables = jax.device_put(
        jax.tree_util.tree_map_with_path(initial, shapes)
    )  # cheaper than to compile init
    carry = (variables["params"], variables["batch_stats"], tx.init(variables["params"]))

    def compile_one(dtype: Any, matmul: str | None) -> tuple[Any, float]:
        start = time.perf_counter()
        with jax.default_matmul_precision(matmul):
            call = jax.jit(epoch_of(ResNet18(dtype))).lower(carry, images, labels, key).compile()
        return call, time.perf_counter() - start

    asked = {
        "float32": (jnp.float32, "highest"),
        "bfloat16": (jnp.bfloat16, None),
        "TF32": (jnp.float32, None),
    }
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        made = {name: pool.submit(compile_one, *each) for name, each in asked.items()}
        for name, future in made.items():
            try:
                call, seconds = future.result(part.left)
            except Exception:
                part.found[name] = {"failed": traceback.format_exc()[-1500:]}
                part.save()
                continue
            part.found[name] = {"compile_s": seconds, "call": call}
        compiled = {name: each for name, each in part.found.items() if "call" in each}
        for each in compiled.values():
            call, samples = each.pop("call"), []
            jax.block_until_ready(call(carry, images, labels, key))
            for _ in range(4):
                start = time.perf_counter()
                _, losses = jax.block_until_ready(call(carry, images, labels, key))
                samples.append(steps * batch / (time.perf_counter() - start))
            each |= {"samples": samples, "images_per_s": statistics.median(samples)}
            each["loss"] = [float(losses[0]), float(losses[-1])]
            part.save()
    part.save()


def resnet_torch(part: Part) -> None:
    """Images per second of training in PyTorch, channels last: float32, TF32 and bfloat16, eager and compiled."""
    import torch
    from torch import nn

    count, batch, width, steps = resnet_sizes(part)
    device = torch.device("cpu" if part.small else "cuda")
    torch.backends.cudnn.benchmark = True

    class Block(nn.Module):
        def __init__(self, inputs: int, features: int, stride: int) -> None:
            super().__init__()
            self.conv0 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
            self.conv1 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
            self.norm0, self.norm1 = nn.BatchNorm2d(features), nn.BatchNorm2d(features)
            self.shortcut = nn.Sequential()
            if stride > 1 or inputs != features:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, features, 1, stride, bias=False), nn.BatchNorm2d(features)
                )

        def forward(self, x: Any) -> Any:
            y = self.norm1(self.conv1(torch.relu(self.norm0(self.conv0(x)))))
            return torch.relu(self.shortcut(x) + y)

    def network() -> Any:
        layers: list[Any] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
        for stage in range(4):
            for block in range(2):
                layers.append(Block(inputs, width * 2**stage, 2 if stage and not block else 1))
                inputs = width * 2**stage
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
        return nn.Sequential(*layers).to(device, memory_format=torch.channels_last)

    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (count,), device=device)

    def measure(kind: str, compiled: bool) -> dict[str, Any]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind == "TF32"
        net = network()
        tx = torch.optim.SGD(net.parameters(), 0.1, 0.9, fused=True)
        start = time.perf_counter()

        def loss_of(x: Any, y: Any) -> Any:
            x = x.permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
            with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bfloat16"):
                return nn.functional.cross_entropy(net(x), y)

        run = torch.compile(loss_of) if compiled else loss_of

        def epoch() -> Any:
            order = torch.randperm(count, device=device)[: steps * batch]
            for places in order.split(batch):
                tx.zero_grad(set_to_none=True)
                loss = run(images[places], labels[places])
                loss.backward()
                tx.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            return loss

        epoch()
        warm_s, samples = time.perf_counter() - start, []
        for _ in range(4):
            start = time.perf_counter()
            loss = epoch()
            samples.append(steps * batch / (time.perf_counter() - start))
        return {
            "samples": samples,
            "images_per_s": statistics.median(samples),
            "warm_up_s": warm_s,
            "loss": float(loss.detach()),
        }

    for compiled in (False, True):
        for kind in ("float32", "bfloat16", "TF32"):
            if not (compiled and part.small):
                part.attempt(f"{kind}{', compiled' if compiled else ''}", measure, kind, compiled)


# All parts


INNER = {
    "precision": precision,
    "digests": digests,
    "torch_trials": torch_trials,
    "resnet_jax": resnet_jax,
    "resnet_torch": resnet_torch,
}
OUTER = {
    "environment": environment,
    "study": study,
    "oracle": oracle,
    "determinism": determinism,
    "lanes": lanes,
    "resnet": resnet,
}


def run_part(name: str, device: str, seconds: float, out: Path) -> None:
    """Run one part in this process."""
    part = Part(device, seconds, out)
    try:
        (INNER | OUTER)[name](part)
    except Exception:
        part.found["failed"] = traceback.format_exc()[-4000:]
    part.save()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # compilations that are still running are not waited for


def watch(name: str, device: str, seconds: float, keep: Any) -> None:
    """Run a part in a process of its own, and keep what it has found as it goes."""
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "found.json", Path(folder) / "log"
        command = [sys.executable, str(Path(__file__).resolve()), "--part", name, "--device", device]
        command += ["--seconds", str(seconds), "--out", str(out)]
        start = time.monotonic()
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=environ(device, f"{folder}/cache"),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        code: int | None = None
        while code is None and time.monotonic() - start < seconds + 12:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(2)
            found = json.loads(out.read_text()) if out.exists() else {}
            spent = {"part_s": round(time.monotonic() - start, 1)}
            keep(found | spent)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        tail = log.read_text(errors="replace")[-3000:]
        keep(found | spent | {"exit_code": code, "log": tail})


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seconds", nargs="*", default=[], help="PART=SECONDS, or all of the time")
    parser.add_argument("--total", type=float, default=470.0)
    parser.add_argument("--part", choices=[*INNER, *OUTER])
    options = parser.parse_args()
    if options.part:
        run_part(options.part, options.device, float(options.seconds[0]), options.out)
    budgets = PARTS | {
        name: float(text) for name, _, text in (each.partition("=") for each in options.seconds)
    }
    begun = time.monotonic()
    record: dict[str, Any] = {"device": options.device, "python": sys.version, "parts": {}}
    for name in options.parts:
        left = options.total - (time.monotonic() - begun)
        if left < 10:
            record["parts"][name] = {"failed": "no time was left"}
            continue

        def keep(found: dict[str, Any], name: str = name) -> None:
            record["parts"][name] = found
            record["total_s"] = round(time.monotonic() - begun, 1)
            scratch = options.out.with_suffix(".new")
            scratch.write_text(json.dumps(record, indent=1, default=str))
            scratch.replace(options.out)

        print(f"{name} ...", flush=True)
        try:
            watch(name, options.device, min(budgets[name], left), keep)
        except Exception:
            keep({"failed": traceback.format_exc()})
        print(f"  {summary(name, record['parts'][name])}", flush=True)
    print(f"total {time.monotonic() - begun:.0f} s")
    for name, found in record["parts"].items():
        print(f"\n{name} ({found.get('part_s')} s): {summary(name, found)}")
        for line in lines(name, found):
            print(f"  {line}")


def summary(name: str, found: dict[str, Any]) -> str:
    """Whether a part ended well, in a line."""
    if "failed" in found:
        return "FAILED: " + str(found["failed"]).strip().splitlines()[-1]
    code = found.get("exit_code")
    return "done" if code == 0 else f"ended early (exit code {code})"


def lines(name: str, found: dict[str, Any]) -> list[str]:
    """The most important numbers of a part."""
    try:
        return list(LINES[name](found))
    except Exception as error:
        return [f"cannot be summed up: {type(error).__name__}: {error}"]


def _environment_lines(found: dict[str, Any]) -> Any:
    exact = found["precision"]
    yield f"device {found['device']}, {found['cores']} cores, {exact['described']['devices']}"
    for name in ("pinned", "default"):
        yield f"largest error, {name} ({exact[name]['precision']}): {exact[name]['worst']:.1e}"


def _study_lines(found: dict[str, Any]) -> Any:
    for name, each in found.items():
        if isinstance(each, dict) and "trials_per_hour" in each:
            spent = {kind.removesuffix("_time_s"): round(s, 1) for kind, s in each["seconds"].items()}
            yield f"{name}: {each['wall_s']:.1f} s, {each['trials_per_hour']:,.0f} trials per hour, {spent}"
        elif isinstance(each, dict) and "failed" in each:
            yield f"{name}: FAILED: {each['failed'].strip().splitlines()[-1][:200]}"
    for way in ("eager", "graph"):
        if "trials_per_hour" in found.get("PyTorch", {}).get(way, {}):
            yield f"PyTorch, {way}: {found['PyTorch'][way]['trials_per_hour']:,.0f} trials per hour"
    yield f"cold and warm have equal bits: {found.get('cold and warm have equal bits')}"
    if "replay" in found:
        yield f"replay: exit code {found['replay'].get('exit_code')}"


def _oracle_lines(found: dict[str, Any]) -> Any:
    failed = [name for name, each in found["results"].items() if "failed" in each]
    yield f"deviation of parameters: median {found.get('median')}, worst {found.get('worst')}; failed: {failed}"


def _determinism_lines(found: dict[str, Any]) -> Any:
    for flags in FLAGS:
        pairs = found.get(f"{flags}: equal in two processes", {})
        others = [key for key, same in pairs.items() if not same]
        yield f"{flags}: equal in two processes {sum(pairs.values())} of {len(pairs)}; not {others}"
        first = found.get(f"{flags} 1", {}).get("digests", {})
        for what in ("equal_in_process", "equal_at_another_place", "equal_beside_others"):
            known = [each[what] for each in first.values() if what in each]
            yield f"  {what}: {sum(known)} of {len(known)}"


def _lanes_lines(found: dict[str, Any]) -> Any:
    for case in found["cases"]:
        what = f"{case['model']}, batch {case['batch_size']}, {case['lanes']} lanes, {case['form']}"
        if "samples" in case:
            size = (case["bytes"] or 0) / case["lanes"] / 1e6
            rate, seconds = statistics.median(case["samples"]), case["compile_s"]
            yield f"{what}: {rate:,.0f} images/s, {size:.1f} MB per lane, compiled in {seconds:.0f} s"
        else:
            yield f"{what}: {case['failed']}"
    for case in found["torch"]:
        rates = {
            way: f"{statistics.median(samples):,.0f}" for way, samples in case.get("samples", {}).items()
        }
        yield f"PyTorch {case['model']}, batch {case['batch_size']}, {case['lanes']}: {rates or case.get('failed')}"


def _resnet_lines(found: dict[str, Any]) -> Any:
    for side in ("jax", "torch"):
        for name, each in found.get(side, {}).items():
            if isinstance(each, dict) and "images_per_s" in each:
                yield f"{side} {name}: {each['images_per_s']:,.0f} images/s"
            elif isinstance(each, dict) and "failed" in each:
                yield f"{side} {name}: FAILED: {each['failed'].strip().splitlines()[-1][:200]}"


LINES = {
    "environment": _environment_lines,
    "study": _study_lines,
    "oracle": _oracle_lines,
    "determinism": _determinism_lines,
    "lanes": _lanes_lines,
    "resnet": _resnet_lines,
}

if __name__ == "__main__":
    main()
