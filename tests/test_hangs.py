"""Signals, broken streams, folders that vanish: a study ends in order, says why in a line, and never hangs.

Real processes get real signals.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

import dlbench
from dlbench.errors import WorkerError
from dlbench.execution import messages
from dlbench.execution.endpoint import Endpoint, Receive
from dlbench.execution.jobs import JobQueue
from dlbench.execution.place import Place
from dlbench.execution.pool import MAX_ATTEMPTS, Pool
from dlbench.execution.processes import ProcessEndpoint
from dlbench.records import TrialStatus
from dlbench.spec import programs
from dlbench.studies import planning

TINY = [f"--{name.removeprefix('num_').replace('_', '-')}={value}" for name, value in SMALL.items()]
#: Longer than any test waits: hundreds of epochs of some tenths of a second.
LONG = ["--train-size=3000", "--val-size=500", "--batch-size=16", "--epochs=500"]
MODELS = '''
import sys
import time
import jax
from flax import linen as nn


class Noisy(nn.Module):
    """Prints more than a pipe holds."""
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, train=False):
        for number in range(4000):
            print("line", number, "of a model that prints a lot")
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))


class Slow(nn.Module):
    """Takes more than a second for a batch."""
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, train=False):
        def wait(x):
            time.sleep(1.5)
            return x

        wait_s = jax.pure_callback(wait, jax.ShapeDtypeStruct((), x.dtype), jax.lax.stop_gradient(x.sum()))
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1)) + 0 * wait_s


class Exits(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, train=False):
        sys.exit(0)


class Surrogate(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, train=False):
        raise ValueError("no such file: caf\\udce9.txt")
'''


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    (tmp_path / "unruly.py").write_text(MODELS)
    return tmp_path


def begun(*words: str, cwd: Path, **streams: Any) -> subprocess.Popen[str]:
    """A command that leads a process group of its own."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    command = [sys.executable, "-m", "dlbench", *words]
    return subprocess.Popen(command, cwd=cwd, text=True, start_new_session=True, **given)


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of ``dlbench``, with its pipes and redirections."""
    script = f'dlbench() {{ "{sys.executable}" -m dlbench "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=120)


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


def epochs(folder: Path) -> int:
    try:
        return sum(len(trial.history) for trial in dlbench.open_study(folder))
    except dlbench.DlbenchError:
        return 0


def group(pid: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, leader = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(leader) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


# Signals.


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SIGTERM", 143),
        pytest.param("SIGHUP", 129, marks=pytest.mark.slow),
        pytest.param("SIGUSR1", 138, marks=pytest.mark.slow),
        pytest.param("SIGINT", 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_the_whole_group_saves_the_trial_in_hand(name: str, code: int, cwd: Path) -> None:
    """As a scheduler sends it before it takes the machine away: to the workers too."""
    process = begun("train", "--name=s", "--workers=1", *LONG, cwd=cwd)
    wait_for(lambda: epochs(cwd / "runs" / "s") >= 2, process)
    os.killpg(process.pid, getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Finishing the epoch" in err
    assert "Interrupted: 0 of 1 trials are done and kept" in err
    assert "Traceback" not in err
    (state, *_) = (cwd / "runs" / "s" / "trials").glob("*/state/*")
    assert int(state.name) >= 2
    assert group(process.pid) == []


@pytest.mark.slow
def test_timeout_and_its_two_signals_are_one_request(cwd: Path) -> None:
    """timeout(1) signals the process, then the group that it is in."""
    process = begun("train", "--name=s", "--workers=1", *LONG, cwd=cwd)
    wait_for(lambda: epochs(cwd / "runs" / "s") >= 1, process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert list((cwd / "runs" / "s" / "trials").glob("*/state/*")), err


def test_the_first_interrupt_is_answered_at_once_and_the_second_obeyed(cwd: Path) -> None:
    process = begun("train", "--name=s", "--workers=1", "--quiet", *LONG, cwd=cwd)
    wait_for(lambda: epochs(cwd / "runs" / "s") >= 1, process)
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    assert "press Ctrl-C again to stop now" in process.stderr.readline()
    assert time.monotonic() - start < 1.0
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("workers", "name"),
    [
        (1, "SIGTERM"),
        pytest.param(0, "SIGTERM", marks=pytest.mark.slow),
        pytest.param(0, "SIGINT", marks=pytest.mark.slow),
    ],
)
def test_of_a_long_epoch_only_this_epoch_is_lost(workers: int, name: str, cwd: Path) -> None:
    number = getattr(signal, name)
    flags = ["--train-size=48", "--val-size=16", "--batch-size=16", "--epochs=3", f"--workers={workers}"]
    process = begun("train", "--model=unruly:Slow", "--name=s", "--quiet", *flags, cwd=cwd)
    wait_for(lambda: epochs(cwd / "runs" / "s") == 1, process)
    start = time.monotonic()
    os.killpg(process.pid, number)
    assert process.stderr is not None
    assert "Finishing the epoch" in next(line for line in process.stderr if "Warning" not in line)
    assert time.monotonic() - start < 1.5
    wait_for(lambda: list((cwd / "runs" / "s" / "trials").glob("*/state/1")) != [], process)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 6
    assert process.returncode == 128 + number
    assert "To continue: dlbench train" in err
    assert "Traceback" not in err
    assert group(process.pid) == []


@pytest.mark.slow
def test_a_second_interrupt_ends_training_in_this_process_at_once(cwd: Path) -> None:
    flags = ["--train-size=72", "--val-size=16", "--batch-size=16", "--epochs=3", "--workers=0"]
    process = begun("train", "--model=unruly:Slow", "--name=s", "--quiet", *flags, cwd=cwd)
    wait_for(lambda: epochs(cwd / "runs" / "s") == 1, process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    next(line for line in process.stderr if "press Ctrl-C again" in line)
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert time.monotonic() - start < 1.5
    assert process.returncode == 130


@pytest.mark.parametrize("delay", [pytest.param(0.3, marks=pytest.mark.slow), 1.5])
def test_an_interrupt_while_workers_start_shows_no_traceback(delay: float, cwd: Path) -> None:
    process = begun("grid", "--name=s", "--workers=2", "--seeds=2", *TINY, cwd=cwd)
    wait_for(lambda: len(group(process.pid)) > 2, process)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (130, 0)
    assert "Traceback" not in err
    assert group(process.pid) == []


@pytest.mark.parametrize("delay", [0.0, pytest.param(3.0, marks=pytest.mark.slow)])
def test_workers_end_with_a_parent_that_is_killed(delay: float, cwd: Path) -> None:
    """Though they ignore what would have ended them."""
    process = begun("train", "--name=s", "--workers=1", *LONG, cwd=cwd)
    wait_for(lambda: len(group(process.pid)) > 1, process)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGTERM)
    process.kill()
    _, err = process.communicate(timeout=30)  # ends when the last worker has let go of the pipe
    end = time.monotonic() + 10
    while group(process.pid):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "Traceback" not in err


@pytest.mark.slow
def test_nohup_is_respected(cwd: Path) -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "dlbench", "train", "--name=s", "--workers=1", *TINY],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(group(process.pid)) > 1, process)
    os.killpg(process.pid, signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


# Streams that break or fill.


@pytest.mark.parametrize(
    ("redirected", "code", "workers"),
    [
        ("2>&1 | head -1", 0, 1),
        pytest.param("2>&1 | head -1", 0, 0, marks=pytest.mark.slow),
        pytest.param("2>&-", 0, 1, marks=pytest.mark.slow),
        pytest.param("<&- >&- 2>&-", 0, 1, marks=pytest.mark.slow),
        (">/dev/full", 1, 1),
        pytest.param("2>/dev/full", 0, 1, marks=pytest.mark.slow),
        pytest.param("2>/dev/full", 0, 0, marks=pytest.mark.slow),
        pytest.param("2>&-", 0, 0, marks=pytest.mark.slow),
    ],
)
def test_a_study_ends_whatever_becomes_of_its_streams(
    redirected: str, code: int, workers: int, cwd: Path
) -> None:
    words = f"train --model=unruly:Noisy --name=s --json --workers={workers} {' '.join(TINY)}"
    done = shell(f"dlbench {words} {redirected}", cwd)
    (trial,) = dlbench.open_study(cwd / "runs" / "s")
    assert trial.status is TrialStatus.COMPLETE
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    if redirected == ">/dev/full":
        last = done.stderr.splitlines()[-1]
        assert last == "Error: standard output cannot be written: No space left on device"
    if redirected == "2>&-":
        assert json.loads(done.stdout), "what a model prints is not in the results"


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_study_ends_though_nobody_reads_what_its_model_prints(workers: int, cwd: Path) -> None:
    words = ["train", "--model=unruly:Noisy", "--name=s", f"--workers={workers}", *TINY]
    process = begun(*words, cwd=cwd, stdout=subprocess.DEVNULL)
    assert process.wait(timeout=120) == 0
    process.communicate()
    assert dlbench.open_study(cwd / "runs" / "s").complete


@pytest.mark.parametrize("words", [["--help"], ["info"]])
def test_a_full_standard_output_is_said_in_a_line(words: list[str], cwd: Path) -> None:
    done = shell(f"dlbench {' '.join(words)} >/dev/full", cwd)
    assert done.returncode == 1
    assert done.stderr == "Error: standard output cannot be written: No space left on device\n"


def test_a_deleted_working_folder_is_said_in_a_line(cwd: Path) -> None:
    done = shell("mkdir gone; cd gone; rmdir ../gone; dlbench results", cwd)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "Error: the working folder does not exist any more; change to another",
    )


# Folders that vanish, disks that have limits, studies whose process is gone.


@pytest.mark.parametrize("how", [pytest.param("moved", marks=pytest.mark.slow), "deleted"])
def test_a_study_whose_folder_vanishes_ends_with_a_line_and_writes_no_more(how: str, cwd: Path) -> None:
    folder = cwd / "runs" / "s"
    process = begun("train", "--name=s", "--workers=1", "--checkpoint-every=1", *LONG, cwd=cwd)
    wait_for(lambda: epochs(folder) >= 1, process)
    if how == "moved":
        folder.rename(cwd / "runs" / "other")
    else:
        shutil.rmtree(folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    last = err.splitlines()[-1]
    assert last.startswith("Error: the study's folder runs/s was moved, deleted or replaced")
    assert "Traceback" not in err
    assert not folder.exists()
    if how == "moved":
        assert epochs(cwd / "runs" / "other") >= 1


@pytest.mark.parametrize(
    "flags", ["--workers=1", pytest.param("--workers=0 --checkpoint-every=1", marks=pytest.mark.slow)]
)
def test_a_limit_on_the_size_of_files_is_said_in_a_line(flags: str, cwd: Path) -> None:
    done = shell(f"ulimit -f 300; dlbench train --name=s --quiet {flags} {' '.join(TINY)}", cwd)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: the folder for temporary files, ")
    assert "cannot be written: File too large; raise the limit" in line


def test_a_file_system_without_locks_is_named(cwd: Path) -> None:
    """flock(2) fails as it does there: the library that a process loads first answers in its place."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    (cwd / "flock.c").write_text(
        "#include <errno.h>\nint flock(int f, int o) { errno = ENOLCK; return -1; }\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "flock.so", "flock.c"], cwd=cwd, check=True)
    done = shell(f"LD_PRELOAD=$PWD/flock.so dlbench train --name=s {' '.join(TINY)}", cwd)
    assert done.returncode == 2
    assert "has no locks (No locks available)" in done.stderr
    assert done.stderr.rstrip().endswith("; take a local --out")


def test_a_killed_study_is_interrupted_not_running(cwd: Path) -> None:
    folder = cwd / "runs" / "s"
    process = begun("train", "--name=s", "--workers=1", *LONG, cwd=cwd)
    wait_for(lambda: epochs(folder) >= 1, process)
    assert [trial.status for trial in dlbench.open_study(folder)] == [TrialStatus.RUNNING]
    process.kill()
    process.communicate()
    assert [trial.status for trial in dlbench.open_study(folder)] == [TrialStatus.INTERRUPTED]
    (summary,) = dlbench.list_studies(cwd / "runs")
    assert summary.counts == {TrialStatus.INTERRUPTED: 1}
    shown = shell("dlbench results s", cwd)
    assert (shown.returncode, "interrupted" in shown.stdout, "running" in shown.stdout) == (0, True, False)


# Models that end their process, and workers that die.


@pytest.mark.parametrize(
    ("model", "reason", "workers"),
    [
        ("Exits", "SystemExit: the model ended its process, with exit code 0", 1),
        ("Surrogate", r"no such file: caf\udce9.txt", 0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("Exits", "SystemExit: the model ended its process, with exit code 0", 0),
                ("Surrogate", r"no such file: caf\udce9.txt", 1),
            )
        ),
    ],
)
def test_a_model_that_fails_oddly_has_failed_with_its_reason(
    model: str, reason: str, workers: int, cwd: Path
) -> None:
    words = ["train", f"--model=unruly:{model}", "--name=s", f"--workers={workers}", *TINY]
    done = begun(*words, cwd=cwd)
    _, err = done.communicate(timeout=120)
    assert done.returncode == 1
    (trial,) = dlbench.open_study(cwd / "runs" / "s")
    assert trial.status is TrialStatus.FAILED
    assert reason in (trial.error or "").splitlines()[0]
    assert reason in err


def pool(tmp_path: Path, small_study: dlbench.StudySpec, deaths: dict[int, int], workers: int) -> Pool:
    """A pool of real workers, of which some are killed as they start, so and so often by number."""
    planned = planning.plan(small_study, out=tmp_path / "s")
    place = Place("cpu", workers, None, None, 1)

    def start(number: int, receive: Receive) -> Endpoint:
        endpoint = ProcessEndpoint(number, place, lambda: None, (), receive)
        if deaths.get(number, 0):
            deaths[number] -= 1
            os.kill(endpoint._process.pid, signal.SIGKILL)
        return endpoint

    jobs = JobQueue(programs.programs(planned.trials))
    return Pool(jobs, workers, start, lambda job: {}, threading.Event())


def test_workers_that_die_as_they_start_do_not_end_a_study_unless_one_never_starts(
    tmp_path: Path, small_study: dlbench.StudySpec
) -> None:
    deaths = {0: MAX_ATTEMPTS - 1, 1: MAX_ATTEMPTS - 1}
    happened = list(pool(tmp_path, small_study, deaths, 2).run())
    assert sum(isinstance(event, messages.Finished) for event in happened) == 4
    assert deaths == {0: 0, 1: 0}
    with pytest.raises(WorkerError, match="was killed by SIGKILL before it was ready"):
        list(pool(tmp_path, small_study, {0: MAX_ATTEMPTS}, 1).run())


def test_kernels_that_cannot_be_chosen_end_the_study_with_their_reason(
    tmp_path: Path, small_study: dlbench.StudySpec
) -> None:
    """A worker waits for them; an error there must not leave it waiting."""
    planned = planning.plan(small_study, out=tmp_path / "s")
    place = Place("cpu", 1, None, None, 1)

    def kernels() -> str | None:
        raise ValueError("No closing quotation")

    def start(number: int, receive: Receive) -> Endpoint:
        return ProcessEndpoint(number, place, kernels, (), receive)

    stopping = threading.Event()
    with pytest.raises(WorkerError, match="No closing quotation"):
        list(Pool(JobQueue(programs.programs(planned.trials)), 1, start, lambda job: {}, stopping).run())


def test_a_study_is_shown_to_its_end_in_a_terminal(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "dlbench", "train", "--model=mlp", "--epochs=40", *TINY]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path) as process:
        os.close(theirs)
        shown = b""
        killer = threading.Timer(120, process.kill)
        killer.start()
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 65536):
                shown += part
        killer.cancel()
    os.close(ours)
    assert process.returncode == 0, shown[-2000:].decode(errors="replace")
    assert "━".encode() in shown, "the bar"
    assert b"test accuracy" in shown
