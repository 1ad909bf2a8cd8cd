"""Ray clusters of several nodes: nodes that join and leave, hosts that share nothing, and whoever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from test_cluster import OWN, TINY, digests
from test_kills import alive, children, dlbench_command, said

import dlbench
from dlbench import report
from dlbench.execution import messages

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray")]
#: How often each kind of process is killed.
KILLS = int(os.environ.get("DLBENCH_KILLS", "10"))


@pytest.fixture(scope="module")
def ray() -> None:
    pytest.importorskip("ray")


@pytest.fixture
def nodes(ray: None) -> Iterator[Any]:
    """A cluster whose head trains nothing."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def study() -> dlbench.StudySpec:
    return dlbench.grid(model="baseline", learning_rate=[1e-3, 1e-2], seed=[0, 1, 2], **SMALL)


@pytest.fixture(scope="module")
def expected(study: dlbench.StudySpec, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return digests(dlbench.run(study, workers=2, reuse=False, out=tmp_path_factory.mktemp("e") / "s"))


def test_two_nodes(nodes: Any, study: dlbench.StudySpec, expected: Any, tmp_path: Path) -> None:
    nodes.add_node(num_cpus=1)
    nodes.add_node(num_cpus=1)
    workers = set[int]()

    def hear(event: object) -> None:
        if isinstance(event, messages.Ready):
            workers.add(event.worker)

    result = dlbench.run(study, cluster=nodes.address, reuse=False, out=tmp_path / "s", on_event=hear)
    assert digests(result) == expected
    assert workers == {0, 1}


def test_a_node_leaves_in_mid_trial_and_another_joins(
    nodes: Any, study: dlbench.StudySpec, expected: Any, tmp_path: Path
) -> None:
    only = nodes.add_node(num_cpus=1)
    said: list[str] = []

    def change(event: object) -> None:
        nonlocal only
        if isinstance(event, messages.Notice):
            said.append(event.text)
        if isinstance(event, messages.EpochEnded) and only is not None:
            leaving, only = only, None
            nodes.remove_node(leaving, allow_graceful=False)
            nodes.add_node(num_cpus=1)

    result = dlbench.run(study, cluster=nodes.address, reuse=False, out=tmp_path / "s", on_event=change)
    assert digests(result) == expected
    assert any("was lost; its trials are trained on other nodes" in text for text in said)


def test_nodes_of_another_environment_do_not_train_unless_they_may(nodes: Any, tmp_path: Path) -> None:
    longer = SMALL | {"num_epochs": 300, "batch_size": [16, 24]}  # two programs, one for each node
    study = dlbench.grid(model="baseline", seed=[0, 1, 2], **longer)
    nodes.add_node(num_cpus=1)
    nodes.add_node(num_cpus=1, env_vars={"XLA_FLAGS": "--xla_cpu_enable_fast_min_max=true"})
    (tmp_path / "s").mkdir()
    known = dlbench.run(study, workers=2, reuse=False, out=tmp_path / "s" / "known")
    planned = dlbench.plan(study, cluster=nodes.address, out=known.folder)
    assert planned.missing == [], "the environment of the results is the one that trains"
    assert planned.machines[0] == "1 node with 1 worker"
    assert re.fullmatch(
        r"1 node of another environment \(xla_flags: .*\) does not train, .*", planned.machines[1]
    )
    options: Any = {"cluster": nodes.address, "mixed": True, "reuse": False}
    both = dlbench.run(study, out=tmp_path / "s" / "both", **options)
    assert len({trial.environment for trial in both}) == 2
    assert "come from 2 environments" in str(report.study_report(both).parts)
    assert len(dlbench.plan(study, cluster=nodes.address, out=both.folder, reuse=False).missing) in range(
        1, 6
    )


def family(pid: int) -> dict[int, str]:
    """The processes that one has started, directly or not, with their command lines."""
    found: dict[int, str] = {}
    waiting = children(pid)
    while waiting:
        one = waiting.pop()
        try:
            found[one] = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        waiting += children(one)
    return found


def ended(pids: list[int]) -> bool:
    end = time.monotonic() + 120  # the agents of Ray look for their server for a minute
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(map(alive, pids))


@pytest.mark.parametrize("victim", ["ray::Actor", "raylet/raylet", "driver"])
def test_whoever_is_killed_the_same_command_ends_with_the_same_bits(
    victim: str, study: dlbench.StudySpec, expected: Any, tmp_path: Path
) -> None:
    words = [
        "grid",
        "--lr=1e-3,1e-2",
        "--seeds=3",
        "--name=s",
        "--cluster=local",
        "--checkpoint-every=1",
        *TINY,
    ]
    chance = random.Random(0)
    for number in range(KILLS):
        cwd = tmp_path / str(number)
        cwd.mkdir()
        process = dlbench_command(*words, cwd=cwd)
        end = time.monotonic() + 60
        while not any("ray::Actor" in line for line in family(process.pid).values()):
            assert time.monotonic() < end
            assert process.poll() is None, said(cwd)
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 6))
        started = family(process.pid)
        victims = [pid for pid, line in started.items() if victim in line] or [process.pid]
        with contextlib.suppress(ProcessLookupError):  # the study has ended
            os.kill(chance.choice(victims), signal.SIGKILL)
        process.communicate(timeout=120)
        if victim == "ray::Actor":
            assert process.returncode == 0, said(cwd)
        started |= family(process.pid)
        assert ended(list(started)), {pid: line for pid, line in started.items() if alive(pid)}
        process = dlbench_command(*words, cwd=cwd)
        process.communicate(timeout=120)
        assert process.returncode == 0, said(cwd)
        assert digests(dlbench.open_study(cwd / "runs" / "s")) == expected
        shutil.rmtree(cwd)


@pytest.fixture
def hosts() -> Iterator[Any]:
    """Two hosts: network namespaces with a cable between them, and a private folder each at the same path."""
    root = Path(tempfile.mkdtemp(prefix="dlb", dir="/tmp"))
    names = [f"dlb{os.getpid()}{letter}" for letter in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    running: list[subprocess.Popen[str]] = []
    settings = {
        "DLBENCH_CACHE_DIR": f"{root}/cache",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }

    def on(host: int, script: str) -> subprocess.Popen[str]:
        """Run a shell script on a host; what it starts ends with it."""
        inside = f"mount -t tmpfs tmpfs {root} && mkdir {root}/work && cd {root}/work && {script}"
        words = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            inside,
        ]
        process = subprocess.Popen(
            ["ip", "netns", "exec", names[host], *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **settings},
        )
        running.append(process)
        return process

    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            "cable",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            names[1],
        )
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs network namespaces: {error}")
    try:
        yield root, on
    finally:
        for process in running:
            process.kill()
            process.wait()
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)
        shutil.rmtree(root, ignore_errors=True)


def test_two_hosts_that_share_nothing(hosts: Any) -> None:
    """The model's module, the data and the study are in a folder that only the first host has; the second trains."""
    root, on = hosts
    python = sys.executable
    ray = f"{python} -m ray.scripts.scripts"
    words = ["grid", "--model=travelling:Net", "--dataset=npz:own.npz", "--lr=1e-3,1e-2", *TINY]
    command = f"{python} -m dlbench {' '.join(words)} --no-reuse --quiet"
    shared = Path(tempfile.mkdtemp())
    (shared / "travelling.py").write_text(OWN)
    (shared / "sizes.py").write_text("WIDTH = 3\n")
    script = f"""
    cp {shared}/*.py . &&
    {python} -c "
import dlbench, numpy
d = dlbench.data.load('mnist5k')
numpy.savez('own.npz', **{{k: getattr(d, k)[:200] for k in
    ('train_images', 'train_labels', 'test_images', 'test_labels')}})" &&
    {ray} start --head --node-ip-address=10.77.0.1 --port=6379 --num-cpus=0 --temp-dir={root}/ray \
        --include-dashboard=false >&2 && touch up &&
    {command} --name=there --cluster=10.77.0.1:6379 >&2 &&
    {command} --name=here --workers=1 >&2 &&
    {python} -c "
import dlbench, json
print('FOUND', json.dumps([[[t.id, t.params_sha256, t.history_sha256] for t in dlbench.open_study('runs/' + n)]
    for n in ('there', 'here')]))"
    """
    first = on(0, script)
    second = on(
        1,
        f"""
        until {ray} start --address=10.77.0.1:6379 --node-ip-address=10.77.0.2 --num-cpus=1; do sleep 1; done
        sleep 600
        """,
    )
    out, _ = first.communicate(timeout=300)
    second.kill()
    shutil.rmtree(shared)
    found = [line for line in out.splitlines() if line.startswith("FOUND")]
    assert found, out
    there, here = json.loads(found[0].removeprefix("FOUND"))
    assert there == here
    assert len(there) == 2
