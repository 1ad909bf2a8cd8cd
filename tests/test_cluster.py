"""Studies on a real Ray cluster: the bits of the local pool, whoever dies, joins or leaves."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

import dlbench
from dlbench.cli.options import FLAGS
from dlbench.execution import cluster, messages, modules
from dlbench.execution.jobs import JobQueue
from dlbench.spec import programs
from dlbench.spec.registry import MODELS

TINY = [f"{FLAGS[name]}={value}" for name, value in SMALL.items()]
Digests = dict[str, tuple[Any, ...]]


def digests(result: dlbench.StudyResult) -> Digests:
    return {
        trial.id: (trial.status, trial.params_sha256, trial.best_params_sha256, trial.history_sha256)
        for trial in result
    }


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(dlbench.InputError, match=r"needs Ray, .*pip install 'dlbench\[cluster\]'"):
        dlbench.plan(dlbench.grid(**SMALL), cluster="local")


def test_the_address_is_checked_before_anything_else() -> None:
    with pytest.raises(dlbench.SpecError, match="'auto', 'local' or HOST:PORT; got 'ray://head'"):
        dlbench.plan(dlbench.grid(**SMALL), cluster="ray://head")


def test_jobs_of_a_worker_that_leaves_go_on_in_their_order() -> None:
    study = dlbench.grid(model="baseline", num_epochs=[1, 2, 3, 4], train_size=64, val_size=32)
    jobs = JobQueue(programs.programs(dlbench.plan(study).trials))
    assert jobs.num_open == 4
    first, second = jobs.next(0), jobs.next(0)
    assert jobs.num_open == 0, "the rest is too little to be compiled twice"
    assert first is not None
    assert second is not None
    jobs.put_back(0, [first, second])
    assert jobs.num_open == 4
    assert [job[0].spec.num_epochs for job in iter(lambda: jobs.next(1), None)] == [4, 3, 2, 1]


def test_modules_travel_as_the_files_that_identify_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mine" / "nets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("WIDTH = 4\n")
    (package / "deep.py").write_text(
        "from mine.nets import WIDTH\nfrom helping import DEPTH\nclass Net: pass\n"
    )
    (tmp_path / "helping.py").write_text("DEPTH = 1\n")
    (tmp_path / "beside.py").write_text("raise RuntimeError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = dlbench.TrialSpec(model="mine.nets.deep:Net")
    sent = modules.pack([spec])
    assert sorted(sent) == ["helping.py", "mine/nets/__init__.py", "mine/nets/deep.py"]
    (folder,) = modules.unpack(sent)
    assert modules.unpack(sent) == (folder,)
    found = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*.py")}
    assert found == sent
    planned = MODELS.source_digest(spec.model)
    monkeypatch.setattr(sys, "path", [folder, *(path for path in sys.path if path != str(tmp_path))])
    assert MODELS.source_digest(spec.model) == planned
    assert modules.pack([dlbench.TrialSpec()]) == {}


@pytest.fixture(scope="module")
def local(cache: Path) -> Iterator[None]:
    """A Ray of its own on this machine, for all studies of this module that ask for one."""
    pytest.importorskip("ray")
    with cluster.opened("local"):
        yield


@pytest.mark.slow
def test_the_bits_are_those_of_the_local_pool(
    local: None, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult, tmp_path: Path
) -> None:
    happened: list[Any] = []
    result = dlbench.run(
        small_study, cluster="local", workers=1, reuse=False, out=tmp_path / "s", on_event=happened.append
    )
    assert digests(result) == digests(small_result)
    assert {trial.environment for trial in result} == {trial.environment for trial in small_result}
    (ready,) = (event for event in happened if isinstance(event, messages.Ready))
    assert ready.node
    assert sum(result.times.values()) > 0
    # What the cluster has trained is there for this machine, and the other way round.
    assert dlbench.plan(small_study, out=tmp_path / "s").missing == []
    assert dlbench.plan(small_study, out=tmp_path / "s", cluster="local").missing == []


@pytest.mark.slow
def test_all_five_networks(local: None, tmp_path: Path) -> None:
    study = dlbench.grid(model=[*MODELS.compared], **SMALL | {"num_epochs": 1})
    here = dlbench.run(study, workers=2, reuse=False, out=tmp_path / "here")
    there = dlbench.run(study, cluster="local", reuse=False, out=tmp_path / "there")
    assert digests(there) == digests(here)


OWN = """
import flax.linen as nn
from sizes import WIDTH

class Net(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.Dense(self.num_classes)(nn.relu(nn.Dense(WIDTH)(x.reshape((x.shape[0], -1)))))
"""


@pytest.mark.slow
def test_a_model_of_ones_own_and_data_of_ones_own(
    local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "travelling.py").write_text(OWN)
    (tmp_path / "sizes.py").write_text("WIDTH = 3\n")
    digits = dlbench.data.load("mnist5k")
    few = slice(0, 200)
    own = dlbench.from_arrays(
        "own",
        digits.train_images[few],
        digits.train_labels[few],
        digits.test_images[few],
        digits.test_labels[few],
    )
    study = dlbench.grid(model="travelling:Net", dataset=own, **SMALL)
    here = dlbench.run(study, workers=1, reuse=False, out=tmp_path / "here")
    there = dlbench.run(study, cluster="local", reuse=False, out=tmp_path / "there")
    assert digests(there) == digests(here)
    assert not there.failed


@pytest.mark.slow
def test_ctrl_c_saves_what_is_complete_and_this_machine_goes_on(local: None, tmp_path: Path) -> None:
    study = dlbench.grid(model="baseline", **SMALL)
    interrupted = threading.Event()

    def stop(event: object) -> None:
        if isinstance(event, messages.EpochEnded) and not interrupted.is_set():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        dlbench.run(
            study, cluster="local", reuse=False, checkpoint_every=1, out=tmp_path / "s", on_event=stop
        )
    assert list((tmp_path / "s").glob("trials/*/state/1")), "what was complete has come home"
    here = dlbench.run(study, workers=1, reuse=False, out=tmp_path / "here")
    assert digests(dlbench.run(study, workers=1, out=tmp_path / "s")) == digests(here)
