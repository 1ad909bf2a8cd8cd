"""SIGKILL at any moment, of anything: the same command again ends with the bytes of a run that was never killed."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

import dlbench
from dlbench.cli.options import FLAGS
from dlbench.storage.audit import audit
from dlbench.storage.store import FILE_NAME, Store

TINY = [f"{FLAGS[name]}={value}" for name, value in SMALL.items()]
COMMAND = ["grid", "--lr=1e-3,1e-2", "--seeds=2", "--name=s", "--json", *TINY]
TARGETS = ("parent", "worker", "group")
SAID = "said.txt"
Rows = dict[str, dict[str, Any]]


def dlbench_command(*words: str, cwd: Path) -> subprocess.Popen[bytes]:
    """A command that leads a process group of its own; what it says is added to a file in its folder."""
    with (cwd / SAID).open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "dlbench", *words],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )


def said(cwd: Path) -> str:
    return (cwd / SAID).read_text(errors="replace")


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A record of a trial without what differs from run to run: times, also those inside of files, and the worker."""
    dropped = [name for name in record if "_time_" in name] + ["images_per_s", "worker", "files_sha256"]
    return {name: value for name, value in record.items() if name not in dropped}


def printed(out: bytes) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(out)
    record["study"] = timeless(record["study"])
    return {**record, "trials": [timeless(trial) for trial in record["trials"]]}


def table(cwd: Path) -> list[dict[str, Any]]:
    out, _ = dlbench_command("results", "s", "--format", "csv", cwd=cwd).communicate()
    return [timeless(row) for row in csv.DictReader(io.StringIO(out.decode()))]


def finished(folder: Path) -> Rows:
    """The rows of the trials that have ended."""
    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    try:
        rows = db.execute("SELECT * FROM trials WHERE finished_at IS NOT NULL").fetchall()
    except sqlite3.OperationalError:  # killed before the tables were made
        return {}
    finally:
        db.close()
    return {row["id"]: dict(row) for row in rows}


def changed(before: Rows, after: Rows) -> dict[str, Any]:
    """What is gone, or differs, of the trials that had ended: by trial and column, before and after."""
    return {
        trial: {
            name: (value, after.get(trial, {}).get(name))
            for name, value in row.items()
            if value != after.get(trial, {}).get(name)
        }
        for trial, row in before.items()
        if row != after.get(trial)
    }


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        return []
    found: list[int] = []
    for task in tasks.iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Reference:
    """The run that was never killed."""

    folder: Path
    printed: dict[str, Any]
    table: list[dict[str, Any]]
    seconds: float


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, small_result: dlbench.StudyResult) -> Reference:
    if not Path(f"/proc/{os.getpid()}/task").exists():
        pytest.skip("needs /proc to find processes")
    cwd = tmp_path_factory.mktemp("reference")
    start = time.monotonic()
    process = dlbench_command(*COMMAND, "--workers=2", cwd=cwd)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said(cwd)
    return Reference(cwd / "runs" / "s", printed(out), table(cwd), time.monotonic() - start)


@dataclass
class Tally:
    """What a sweep has seen."""

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))
    kept: int = 0
    studies: int = 0
    #: Seconds that a run takes that is not killed, at most.
    seconds: float = math.inf


def kill(process: subprocess.Popen[bytes], target: str, chance: random.Random) -> bool:
    """Kill something; whether there was anything to kill."""
    workers = children(process.pid)
    if process.poll() is not None or (target == "worker" and not workers):
        return False
    if target == "worker":
        victim = chance.choice(workers)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True
    if target == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate(timeout=60)  # ends when nobody holds the pipes any more: no worker is left
    end = time.monotonic() + 10
    while any(map(alive, workers)):
        assert time.monotonic() < end, f"orphans: {workers}"
        time.sleep(0.02)
    return True


def sweep(cwd: Path, reference: Reference, targets: list[str], chance: random.Random, tally: Tally) -> None:
    """One study, killed at random moments, then left to end; it must be the one that was never killed."""
    folder = cwd / "runs" / "s"
    words = [*COMMAND, f"--workers={chance.choice((1, 2))}"]
    if chance.random() < 0.5:
        words.append("--checkpoint-every=1")
    kept: Rows = {}
    for target in targets:
        process = dlbench_command(*words, cwd=cwd)
        time.sleep(chance.uniform(0, min(reference.seconds, tally.seconds)))
        struck = kill(process, target, chance)
        tally.kills[target] += struck
        if target == "worker" or not struck:
            process.communicate(timeout=120)
            assert process.returncode == 0, said(cwd)
        now = finished(folder)
        assert not changed(kept, now), f"what had ended is not as it was:\n{said(cwd)}"
        kept = now
        if len(kept) == len(reference.printed["trials"]):
            break
    start = time.monotonic()
    process = dlbench_command(*words, cwd=cwd)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said(cwd)
    if not kept:
        tally.seconds = min(tally.seconds, time.monotonic() - start)
    assert not changed(kept, finished(folder))
    assert printed(out) == reference.printed
    assert table(cwd) == reference.table
    assert audit(folder) == []
    with Store(folder) as store:
        assert {str(status) for status in store.statuses().values()} == {"COMPLETE"}
    names = {path.name for trial in (folder / "trials").iterdir() for path in trial.iterdir()}
    assert names == {"best", "test_logits.npy", "val_logits.npy"}, "nothing half-written is left"
    # A parent that was killed after its last trial leaves SQLite's log, which readers need and do not merge.
    log = {"study.sqlite-wal", "study.sqlite-shm"}
    assert {path.name for path in folder.iterdir()} - log == {
        path.name for path in reference.folder.iterdir()
    }
    for trial in (folder / "tensorboard").iterdir():
        assert len(list(trial.iterdir())) == 1
    tally.kept += len(kept)
    tally.studies += 1


def test_a_study_killed_three_times_ends_as_if_it_never_was(tmp_path: Path, reference: Reference) -> None:
    sweep(tmp_path, reference, ["group", "worker", "parent"], random.Random(1), Tally())


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path, reference: Reference) -> None:
    seed = int(os.environ.get("DLBENCH_KILL_SEED", "0"))
    chance, tally = random.Random(seed), Tally()
    while sum(tally.kills.values()) < 100:
        cwd = tmp_path / str(tally.studies)
        cwd.mkdir()
        sweep(cwd, reference, chance.choices(TARGETS, weights=(2, 1, 2), k=5), chance, tally)
    print(tally)
