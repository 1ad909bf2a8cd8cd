"""Disks that are full or read-only, stores that are locked, old, new or damaged, clocks that jump: all of it real."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
from conftest import SMALL
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import dlbench
from dlbench.errors import StoreError
from dlbench.execution import messages
from dlbench.records import Outcome, TrialStatus, history_digest
from dlbench.storage import database
from dlbench.storage.store import FILE_NAME, SCHEMA_VERSION, Store
from dlbench.studies import planning

VERSION_1 = Path(__file__).parent / "data" / "store-version-1.sqlite"


def digests(result: dlbench.StudyResult) -> dict[str, tuple[str, str]]:
    assert [trial.error for trial in result if trial.error] == []
    return {trial.id: (trial.params_sha256, trial.history_sha256) for trial in result}


class Disk:
    """A file system of its own, of a few kilobytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def change(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    disk.path.mkdir()
    try:
        mounted = disk.mount("size=64k")
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk.path)], check=True)


def copied(result: dlbench.StudyResult, folder: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(result.folder / FILE_NAME, folder / FILE_NAME)
    return folder


# Disks.


def full_disk(
    disk: Disk, size: str, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    disk.change(f"size={size}")
    with pytest.raises(StoreError) as caught:
        dlbench.run(small_study, out=disk.path / "s", workers=1)
    assert "free some space" in str(caught.value)
    assert str(disk.path / "s") in str(caught.value)
    assert "\n" not in str(caught.value)
    disk.change("size=64m")
    kept = [trial for trial in dlbench.open_study(disk.path / "s") if trial.status.is_finished]
    again = dlbench.run(small_study, out=disk.path / "s", workers=1)
    assert digests(again) == digests(small_result)
    assert {trial.params_sha256 for trial in kept} <= {trial.params_sha256 for trial in again}
    for trial in again:
        assert trial.load().test_accuracy() == trial.test_accuracy


def test_a_full_disk_is_said_and_what_is_done_is_kept(
    disk: Disk, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    full_disk(disk, "1800k", small_study, small_result)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["100k", "140k", "200k", "500k", "1m", "2500k", "3m"])
def test_a_disk_that_is_full_at_any_moment(
    disk: Disk, size: str, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    full_disk(disk, size, small_study, small_result)


def test_a_disk_too_small_for_the_database(disk: Disk, small_study: dlbench.StudySpec) -> None:
    disk.change("size=4k")
    with pytest.raises(StoreError, match="free some space"):
        dlbench.run(small_study, out=disk.path / "s", workers=1)


def test_a_read_only_folder_can_be_read_and_nothing_else(
    disk: Disk, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    disk.change("size=8m")
    folder = copied(small_result, disk.path / "s")
    (disk.path / "empty").mkdir()
    db = sqlite3.connect(copied(small_result, disk.path / "killed") / FILE_NAME)
    db.execute("PRAGMA journal_mode=WAL")  # as a process leaves it that is killed
    db.close()
    disk.change("ro")
    assert digests(dlbench.open_study(folder)) == digests(small_result)
    assert [summary.problem for summary in dlbench.list_studies(disk.path)] == [None] * 2
    assert digests(dlbench.open_study(disk.path / "killed")) == digests(small_result)
    assert digests(dlbench.run(small_study, out=folder)) == digests(small_result), "nothing is left to train"
    more = dlbench.grid(seed=5, **SMALL)
    for out in (folder, disk.path / "empty", disk.path / "new"):
        with pytest.raises(StoreError, match=r"choose another out") as caught:
            dlbench.run(more, out=out)
        assert "Read-only file system" in str(caught.value)


def test_a_folder_that_this_user_cannot_write(
    tmp_path: Path, small_result: dlbench.StudyResult, cache: Path
) -> None:
    """As somebody else: the administrator's own rights ignore such bits."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to become another user")
    folder = copied(small_result, Path(f"/tmp/dlbench-faults-{os.getpid()}/s"))
    try:
        folder.parent.chmod(0o755)
        folder.chmod(0o755)
        db = sqlite3.connect(f"file:{folder / FILE_NAME}?mode=ro", uri=True)
        db.close()
        code = textwrap.dedent(
            f"""
            import os
            import dlbench.studies.result, dlbench.storage.store, pydantic
            dlbench.grid()  # reads files of the package, which may lie where nobody else can
            os.setuid(65534)
            from pathlib import Path
            print(len(dlbench.open_study({str(folder)!r})))
            try:
                dlbench.storage.store.Store(Path({str(folder)!r}), write=True)
            except dlbench.StoreError as error:
                print(error)
            """
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
        assert done.stdout.startswith("4\n"), done.stderr
        assert "make the folder writable, or choose another out" in done.stdout
    finally:
        shutil.rmtree(folder.parent)


# Others at the same study.

LOCKER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
db.execute("COMMIT")
"""


def held(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that holds the database's write lock."""
    words = [sys.executable, "-c", LOCKER, str(folder / FILE_NAME), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_locked_store_is_waited_for_and_then_said(
    tmp_path: Path, small_result: dlbench.StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(small_result, tmp_path / "s")
    trial = planning.plan(dlbench.grid(seed=9, **SMALL)).trials[0]
    monkeypatch.setattr(database, "PATIENCE_S", 0.3)
    other = held(folder, 60)
    assert digests(dlbench.open_study(folder)) == digests(small_result), "reading needs no lock"
    with pytest.raises(StoreError, match="another program is using it; close that") as kept:
        Store(folder, write=True)
    assert kept.tb is not None, "as a notebook keeps the last traceback: the lock is free all the same"
    other.kill()
    other.wait()
    monkeypatch.setattr(database, "PATIENCE_S", 20)
    other = held(folder, 0.5)
    with Store(folder, write=True) as opened:
        opened.add([trial])
        assert len(opened.results()) == 5
    other.wait()


@pytest.mark.slow
def test_a_store_locked_in_the_middle_of_a_run_loses_nothing(
    tmp_path: Path,
    small_study: dlbench.StudySpec,
    small_result: dlbench.StudyResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 0.3)
    others: list[subprocess.Popen[str]] = []

    def lock(event: object) -> None:
        if isinstance(event, messages.Finished) and not others:
            others.append(held(tmp_path / "s", 600))

    with pytest.raises(StoreError, match="another program is using it"):
        dlbench.run(small_study, out=tmp_path / "s", workers=1, on_event=lock)
    others[0].kill()
    others[0].wait()
    kept = [trial for trial in dlbench.open_study(tmp_path / "s") if trial.status.is_finished]
    assert len(kept) == 1
    again = dlbench.run(small_study, out=tmp_path / "s", workers=1)
    assert digests(again) == digests(small_result)

    def apart(trial: dlbench.TrialResult) -> dlbench.TrialResult:
        """Without its share of compiling, which is settled anew among the trials of a program."""
        return dataclasses.replace(
            trial, outcome=Outcome.from_record({**trial.outcome, "compile_time_s": None})
        )

    assert apart(kept[0]) in map(apart, again.trials)


def test_what_another_process_did_after_the_plan_is_not_done_again(
    tmp_path: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    seen: list[object] = []

    def other(event: object) -> None:
        if isinstance(event, dlbench.Plan):
            copied(small_result, tmp_path / "s")
        seen.append(event)

    result = dlbench.run(small_study, out=tmp_path / "s", on_event=other)
    assert result.trials[0].params_sha256 == small_result.trials[0].params_sha256
    assert len(seen) == 1


@pytest.mark.slow
def test_of_two_parents_one_works_and_the_other_says_so(
    tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "dlbench", "grid", "--lr=1e-3,1e-2", "--seeds=2", "--name=s", *flags]
    parents = [
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [parent.communicate(timeout=120)[1] for parent in parents]
    codes = [parent.returncode for parent in parents]
    assert codes.count(0) >= 1
    for code, err in zip(codes, said, strict=True):
        assert code in (0, 2)
        assert (code == 2) == ("another process is training the study" in err)
    assert digests(dlbench.open_study(tmp_path / "runs" / "s")) == digests(small_result)
    with sqlite3.connect(tmp_path / "runs" / "s" / FILE_NAME) as db:
        assert db.execute("SELECT DISTINCT attempts FROM trials").fetchall() == [(1,)]


# Stores of other versions, damaged ones, and those that never began.


def test_the_first_version_opens_for_ever(tmp_path: Path) -> None:
    """The file was written by schema version 1 and never changes."""
    (tmp_path / "s").mkdir()
    shutil.copy(VERSION_1, tmp_path / "s" / FILE_NAME)
    before = dlbench.open_study(tmp_path / "s")
    statuses = [trial.status for trial in before]
    assert statuses == [
        TrialStatus.COMPLETE,
        TrialStatus.DIVERGED,
        TrialStatus.FAILED,
        TrialStatus.INTERRUPTED,
    ]
    complete = before.trials[0]
    assert complete.params_sha256 == "ba8e8d3f749082c19420fffef7e6d88379f32023955b284072f171f2c038bc49"
    assert (complete.test_accuracy, complete.learning_rate, len(complete.history)) == (0.1, 0.001, 2)
    assert before.trials[2].error.startswith("RuntimeError: not today")
    quick = dlbench.open_study(tmp_path / "s", history=False)
    assert [trial.history for trial in quick] == [()] * 4
    assert [trial.best_val_loss for trial in quick] == [trial.best_val_loss for trial in before]
    assert quick.trials[0].best_val_loss == complete.history[complete.best_epoch - 1].val_loss
    with Store(tmp_path / "s") as opened:
        assert opened.meta("schema_version") == "1"
        assert opened.manifests()[0]["packages"]["jax"]
    with Store(tmp_path / "s", write=True) as opened:
        assert opened.meta("schema_version") == str(SCHEMA_VERSION)
        assert opened.damaged() == []
    assert dlbench.open_study(tmp_path / "s").trials == before.trials
    with sqlite3.connect(tmp_path / "s" / FILE_NAME) as db:
        db.execute("UPDATE trials SET outcome = replace(outcome, '0.1', '0.9') WHERE status = 'COMPLETE'")
    with pytest.raises(StoreError, match="differs from what was recorded"):
        dlbench.open_study(tmp_path / "s")


@pytest.mark.parametrize("loss", [1e-5, 0.5, 1e22])
def test_a_history_is_read_back_and_checked(loss: float, tmp_path: Path) -> None:
    """Figures of every size, one of which is no number: infinity in its place is damage."""
    (trial,) = planning.plan(dlbench.grid(**SMALL), out=tmp_path / "plan").trials
    history = [dlbench.Epoch(loss, 1.0, loss, 0.0), dlbench.Epoch(loss, 0.1, 3 * loss, math.nan)]
    with Store(tmp_path, write=True) as opened:
        opened.add([trial])
        outcome = Outcome(history_sha256=history_digest(history), best_epoch=2)
        opened.finish(trial.id, TrialStatus.COMPLETE, outcome, history)
        (found,) = opened.results()
        assert repr(found.history) == repr(tuple(history))
        assert opened.results(history=False)[0].best_val_loss == 3 * loss
        with sqlite3.connect(tmp_path / FILE_NAME) as db:
            db.execute("UPDATE epochs SET val_accuracy = 9e999 WHERE epoch = 2")
        with pytest.raises(StoreError, match="damaged"):
            opened.results()


@pytest.mark.parametrize("content", [b"", "wal"])
def test_a_study_killed_before_it_began_begins_again(
    content: bytes | str, tmp_path: Path, small_study: dlbench.StudySpec
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".lock").touch()
    path = tmp_path / "s" / FILE_NAME
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        db = sqlite3.connect(path)
        db.execute("PRAGMA journal_mode=WAL")
        db.close()
    assert planning.plan(small_study, out=tmp_path / "s").done == frozenset()
    with pytest.raises(StoreError, match="holds no study yet"):
        dlbench.open_study(tmp_path / "s")
    with Store(tmp_path / "s", write=True) as opened:
        opened.add(planning.plan(small_study).trials)
    assert len(dlbench.open_study(tmp_path / "s")) == 4


def test_the_list_of_studies_survives_those_that_cannot_be_read(
    tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    copied(small_result, tmp_path / "runs" / "good")
    for name in ("newer", "damaged", "wrong-date"):
        copied(small_result, tmp_path / "runs" / name)
    change = "UPDATE meta SET value = '99' WHERE key = '{}'"
    for name, key in (("newer", "schema_version"), ("wrong-date", "created_at")):
        with sqlite3.connect(tmp_path / "runs" / name / FILE_NAME) as db:
            db.execute(change.format(key))
    path = tmp_path / "runs" / "damaged" / FILE_NAME
    path.write_bytes(os.urandom(3000))
    listed = {summary.name: summary for summary in dlbench.list_studies(tmp_path / "runs")}
    assert {name for name, summary in listed.items() if summary.problem} == {"newer", "damaged", "wrong-date"}
    assert "schema version 99" in (listed["newer"].problem or "")
    assert listed["good"].counts == {TrialStatus.COMPLETE: 4}
    done = forked.run("results", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("unreadable") == 3
    assert "schema version 99" in done.stdout


def survives(folder: Path, content: bytes, flips: dict[int, int], original: dlbench.StudyResult) -> bool:
    """Whether a damaged store is refused; if it is not, it must say what it said before."""
    damaged = bytearray(content)
    for place, mask in flips.items():
        damaged[place % len(damaged)] ^= mask
    for path in folder.iterdir():
        path.unlink()
    (folder / FILE_NAME).write_bytes(damaged)
    try:
        found = dlbench.open_study(folder)
        dlbench.list_studies(folder.parent)
    except StoreError as error:
        return "\n" not in str(error)
    assert found.trials == tuple(original)
    assert found.spec.kind == "grid"
    return False


FLIPS = st.dictionaries(st.integers(0, 10**7), st.integers(1, 255), min_size=1, max_size=6)


def flip_many(result: dlbench.StudyResult, folder: Path, number: int) -> None:
    content = (result.folder / FILE_NAME).read_bytes()
    folder.mkdir()
    original = dlbench.open_study(copied(result, folder.parent / "original") and folder.parent / "original")
    original = dlbench.StudyResult(
        original.spec,
        tuple(
            dlbench.TrialResult(t.trial, t.status, t.outcome, t.history, t.error, folder) for t in original
        ),
        folder,
    )
    refused = 0

    @settings(max_examples=number, suppress_health_check=[*HealthCheck])
    @given(flips=FLIPS)
    @example(flips={18: 1})
    def flip(flips: dict[int, int]) -> None:
        nonlocal refused
        refused += survives(folder, content, flips, original)

    flip()
    assert refused > number / 10, "most damage is in use"


def test_a_damaged_store_is_refused_or_says_what_it_said(
    tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    flip_many(small_result, tmp_path / "s", 150)


@pytest.mark.slow
def test_a_store_damaged_anywhere(tmp_path: Path, small_result: dlbench.StudyResult) -> None:
    flip_many(small_result, tmp_path / "s", 3000)


# Clocks.


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_result(
    tmp_path: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    """Ten years on when the first epoch has ended, then thirty back."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("needs libfaketime")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    code = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        import dlbench
        clock, jumps = Path({str(clock)!r}), ["+3650d", "-10950d", "+0"]
        def jump(event):
            if type(event).__name__ in ("EpochEnded", "Started") and jumps:
                before = time.time()
                clock.write_text(jumps.pop(0))
                print("jumped by", time.time() - before)
        study = dlbench.grid(model="baseline", learning_rate=[1e-3, 1e-2], seed=[0, 1], **{SMALL!r})
        dlbench.run(study, workers=2, out={str(tmp_path / "runs" / "s")!r}, checkpoint_every=1, on_event=jump)
        """
    )
    environ = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [round(float(line.split()[-1]) / 86400) for line in done.stdout.splitlines()][:2] == [3650, -14600]
    found = dlbench.open_study(tmp_path / "runs" / "s")
    assert digests(found) == digests(small_result)
    for trial in found:
        assert all(getattr(trial, f"{kind}_time_s") >= 0 for kind in ("train", "eval", "compile", "io"))
    assert [summary.problem for summary in dlbench.list_studies(tmp_path / "runs")] == [None]


@pytest.mark.parametrize("name", ["what? #1 100%25", "caf\u00e9", os.fsdecode(b"caf\xe9")])
def test_a_study_is_read_from_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with Store(folder, write=True, kind="grid") as store:
        store.set_spent({"train": 1.5}, {})
    with Store(folder) as store:
        assert store.times() == {"train": 1.5}
    assert sorted(path.name for path in folder.iterdir()) == [".lock", FILE_NAME]
