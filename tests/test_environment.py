"""What changes numbers is pinned, or part of the recorded environment and said; nothing changes them silently."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

import dlbench
from dlbench.execution import environment, messages
from dlbench.records import TrialStatus

#: For every variable that is pinned or taken away: a value that it shall not have.
HOSTILE = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_THREEFRY_GPU_KERNEL_LOWERING": "1",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_ALLOW_F16_REDUCTIONS": "0",
    "JAX_HIGH_DYNAMIC_RANGE_GUMBEL": "1",
    "JAX_DISABLE_JIT": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_EXEC_TIME_OPTIMIZATION_EFFORT": "0.5",
    "JAX_MEMORY_FITTING_EFFORT": "0.5",
    "JAX_COMPILER_ENABLE_REMAT_PASS": "0",
    "JAX_ENABLE_PGLE": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_INFS": "1",
    "JAX_DEFAULT_DEVICE": "cpu:0",
    "JAX_OPTIMIZATION_LEVEL": "O0",
    "JAX_MEMORY_FITTING_LEVEL": "O0",
    "JAX_USE_DIRECT_LINEARIZE": "0",
    "JAX_SOFTMAX_CUSTOM_JVP": "1",
    "JAX_SCAN3": "1",
    "JAX_REMAT3": "1",
    "JAX_CUSTOM_VJP3": "1",
    "JAX_EXPLICIT_X64_DTYPES": "0",
    "JAX_EAGER_CONSTANT_FOLDING": "1",
    "JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS": "1",
    "JAX_NUM_CPU_DEVICES": "3",
    "JAX_PJRT_CLIENT_CREATE_OPTIONS": "x:y",
    "JAX_PLATFORM_NAME": "tpu",
    "NPROC": "2",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "JAX_PLATFORMS": "tpu",
}


def python(code: str, folder: Path, **variables: str) -> Any:
    """What a process prints, read as JSON."""
    environ = os.environ | {"PYTHONPATH": str(Path(dlbench.__file__).parents[1])} | variables
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_worker_has_none_of_the_users_settings(
    tmp_path: Path,
    small_study: dlbench.StudySpec,
    small_result: dlbench.StudyResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert HOSTILE.keys() >= environment.PINNED.keys() | set(environment.DEFAULTED)
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    environ = dict(os.environ)
    environment.configure(environ, "cpu")
    assert [name for name, value in HOSTILE.items() if environ.get(name) == value] == []
    again = dlbench.run(small_study, out=tmp_path / "s", workers=1, device="cpu")
    for trial, before in zip(again, small_result, strict=True):
        assert trial.error is None
        assert (trial.id, trial.params_sha256) == (before.id, before.params_sha256)
        assert trial.environment == before.environment


def test_a_worker_on_a_gpu_computes_in_float32() -> None:
    environ: dict[str, str] = {}
    environment.configure(environ, "gpu")
    assert environ["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    environment.configure(environ, "cpu")
    assert "JAX_DEFAULT_MATMUL_PRECISION" not in environ


def test_what_one_device_needs_is_pinned_while_a_process_trains_and_then_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here the CPU needs what a GPU does."""
    import jax

    monkeypatch.setattr(environment, "PINNED_ON", {"cpu": environment.PINNED_ON["gpu"]})
    name = "jax_default_matmul_precision"
    with pytest.raises(environment.SettingError, match=f"{name}=None.*trained with 'highest'"):
        environment.check_settings("")
    with environment.computing_in_float32():
        environment.check_settings("")
        jax.config.update(name, "tensorfloat32")
        with pytest.raises(environment.SettingError, match=f"{name}='tensorfloat32'"):
            environment.check_settings("")
        environment.restore_settings()
        environment.check_settings("")
    assert getattr(jax.config, name) is None


def test_jax_has_the_same_settings_in_a_worker_as_where_nothing_is_set(tmp_path: Path) -> None:
    """Each member has the value that jax has by itself, so a wrong value in the table is noticed too."""
    code = """
import json, os, sys
from dlbench.execution import environment
environment.configure(os.environ, "cpu")
import jax
names = [name.lower() for name in (*environment.PINNED, *environment.DEFAULTED)]
print(json.dumps({name: str(getattr(jax.config, name, None)) for name in names}))
"""
    plain = f"import os; [os.environ.pop(name, None) for name in {[*HOSTILE]}]"
    unset = code.replace('environment.configure(os.environ, "cpu")', plain)
    worker = python(code, tmp_path, **HOSTILE)
    assert len(worker) >= 30
    assert worker == python(unset, tmp_path)


def test_settings_that_jax_runs_with_are_refused_by_name(tmp_path: Path) -> None:
    """Each member: set in a process that trains by itself, as a script or notebook does."""
    code = """
import json, os, jax
from dlbench.execution import environment
environment.restore_settings()
environment.check_settings("")
said = {}
for variable, text in HOSTILE.items():
    name = variable.lower()
    if variable not in environment.PINNED or not hasattr(jax.config, name):
        continue
    pinned = environment.PINNED[variable]
    value = type(pinned)(float(text)) if isinstance(pinned, bool | int | float) else text
    if name == "jax_default_device":
        value = jax.devices("cpu")[0]
    try:
        jax.config.update(name, value)
    except Exception as error:
        said[name] = f"not taken: {error}"
        continue
    try:
        environment.check_settings("take it back")
        said[name] = "accepted"
    except environment.SettingError as error:
        said[name] = str(error)
    environment.restore_settings()
    environment.check_settings("")
print(json.dumps(said))
"""
    said = python(f"HOSTILE = {HOSTILE!r}{code}", tmp_path)
    assert len(said) >= len(environment.PINNED) - 5, "each release of jax knows most of them"
    for name, text in said.items():
        assert f"jax is configured with {name}=" in text, text
        assert text.endswith("take it back")


IN_PROCESS = """
import json, os, dlbench, dlbench.studies.running
from dlbench.execution import messages
SMALL = {"model": "linear", "train_size": 72, "val_size": 32, "batch_size": 16, "num_epochs": 2}
"""


@pytest.mark.slow
def test_a_process_that_trains_by_itself_keeps_its_environment(tmp_path: Path) -> None:
    code = """
before = dict(os.environ)
trials = [dlbench.run(dlbench.grid(seed=seed, **SMALL), out=f"s{seed}", workers=0).trials[0] for seed in (0, 1)]
after = dict(os.environ)
for name in ("TPU_SKIP_MDS_QUERY", "CRC32C_SW_MODE"):  # jax and google-crc32c set these when they are imported
    before.pop(name, None), after.pop(name, None)
print(json.dumps([before == after, trials[0].environment == trials[1].environment, trials[0].xla_threads]))
"""
    assert python(IN_PROCESS + code, tmp_path, NPROC="2") == [True, True, 1]


def test_a_process_whose_jax_is_configured_otherwise_is_refused_and_threads_are_said(tmp_path: Path) -> None:
    code = """
import jax
jax.devices()
jax.config.update("jax_enable_x64", True)
try:
    dlbench.run(dlbench.grid(**SMALL), out="s", workers=0)
except dlbench.InputError as error:
    refused = str(error)
jax.config.update("jax_enable_x64", False)
notices = []
def note(event):
    if isinstance(event, messages.Notice):
        notices.append(event.text)
(trial,) = dlbench.run(dlbench.grid(**SMALL), out="s", workers=0, on_event=note)
print(json.dumps([refused, notices, trial.xla_threads]))
"""
    refused, notices, threads = python(IN_PROCESS + code, tmp_path, NPROC="2")
    assert "jax is configured with jax_enable_x64=True in this process" in refused
    assert "train in worker processes" in refused
    assert threads == 2
    assert any("jax was running in this process before, with 2 threads" in text for text in notices)


def test_what_is_set_on_purpose_is_recorded_and_said_and_earlier_trials_are_named(
    tmp_path: Path,
    small_study: dlbench.StudySpec,
    small_result: dlbench.StudyResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "s"
    shutil.copytree(small_result.folder, folder)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    notices: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, messages.Notice):
            notices.append(event.text)

    result = dlbench.run(dlbench.grid(model="linear", seed=2, **SMALL), out=folder, workers=1, on_event=note)
    flags, others = notices
    assert flags.startswith("XLA_FLAGS=--xla_cpu_enable_fast_math=true is set: it can change bits")
    assert others.startswith("4 results in this folder come from another environment (")
    assert "xla_flags:  → --xla_cpu_enable_fast_math=true" in others
    study = dlbench.open_study(folder)
    assert len(study) == 5
    assert {trial.environment for trial in study} == {
        small_result.trials[0].environment,
        result.trials[0].environment,
    }


def test_every_variable_that_is_said_makes_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"backend": "cpu", "xla_flags": "", "settings": {}, "variables": {}}
    assert set(environment.SAID) >= {
        "XLA_FLAGS",
        "LIBTPU_INIT_ARGS",
        "NVIDIA_TF32_OVERRIDE",
        "CUBLAS_WORKSPACE_CONFIG",
        "DNNL_MAX_CPU_ISA",
        "ONEDNN_MAX_CPU_ISA",
    }
    for name in environment.SAID:
        other = plain | ({"xla_flags": "x"} if name == "XLA_FLAGS" else {"variables": {name: "x"}})
        assert environment.environment_digest(other) != environment.environment_digest(plain)
        (said,) = environment.notices(other)
        assert said.startswith(f"{name}=x is set")
    old = {name: value for name, value in plain.items() if name != "variables"}
    assert environment.environment_digest(old) == environment.environment_digest(plain)


SETS = """
import flax.linen as nn
import jax

jax.config.update("jax_enable_x64", True)

class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))
"""


def test_a_model_that_changes_settings_is_refused_and_harms_no_other(
    tmp_path: Path, small_result: dlbench.StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets_x64.py").write_text(SETS)
    monkeypatch.syspath_prepend(tmp_path)
    study = dlbench.grid(
        model=["sets_x64:Net", "baseline"], learning_rate=[1e-3, 1e-2], split_seed=[0], **SMALL
    )
    first, second, *own = dlbench.run(study, out=tmp_path / "s", workers=1)
    for trial in (first, second):
        assert trial.status is TrialStatus.FAILED
        assert "jax_enable_x64=True" in (trial.error or "")
        assert "take the setting out of the code of 'sets_x64:Net'" in (trial.error or "")
    expected = {t.id: t.params_sha256 for t in small_result}
    assert {t.id: t.params_sha256 for t in own}.items() <= expected.items()
