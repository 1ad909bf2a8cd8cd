"""The progress of a study in a terminal: what each event changes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import SMALL

import dlbench
from dlbench.execution import messages
from dlbench.records import Outcome, TrialStatus
from dlbench.report import progress
from dlbench.report.progress import StudyProgress


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The lines that were printed since the last call, where a line is printed for every event."""
    monkeypatch.setattr(progress, "_LINE_S", -1.0)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda: capsys.readouterr().err.splitlines()


def finished(trial_id: str, accuracy: float) -> messages.Finished:
    outcome = Outcome(metrics={"val/accuracy": accuracy})
    return messages.Finished(trial_id=trial_id, status=TrialStatus.COMPLETE, outcome=outcome, history=())


def test_every_event_says_what_it_changes(lines, small_study: dlbench.StudySpec, tmp_path: Path) -> None:
    planned = dlbench.plan(small_study, out=tmp_path / "s")
    first, second, third, _ = (trial.id for trial in planned.trials)
    with StudyProgress() as show:
        show(planned)
        header, line = lines()
        assert header.startswith(
            "4 trials to train (lr x 2, seed x 2, Baseline, 72 images, mnist5k, 2 epochs), about "
        )
        assert line.startswith("0/4 trials, 0/8 epochs, ")
        show(messages.Started(worker=0, trial_ids=(first,)))
        show(messages.Compiling(worker=0, trial_id=first))
        assert ", compiling Baseline, " in lines()[-1]
        show(messages.EpochEnded(trial_id=first, number=1, values=(1, 0.5, 1, 0.5, None)))
        assert lines()[-1].startswith("0/4 trials, 1/8 epochs, ")
        show(finished(first, 0.5))
        assert lines()[-1].startswith("1/4 trials, 2/8 epochs, best val acc 50.00 % (lr 0.001), ")
        show(finished(second, 0.25))  # the other seed
        assert ", best val acc 50.00, 25.00 % (lr 0.001), " in lines()[-1]
        show(finished(third, 0.75))  # the other rate
        assert ", best val acc 75.00 % (lr 0.01), " in lines()[-1]


def test_a_bar_begins_with_the_estimate(small_study: dlbench.StudySpec, tmp_path: Path) -> None:
    class Recorded:
        def __init__(self) -> None:
            self.updates: list[tuple[str, float, float]] = []

        def update(self, words: str, share: float, left_s: float) -> None:
            self.updates.append((words, share, left_s))

        def say(self, text: str) -> None: ...

        def stop(self) -> None: ...

    planned = dlbench.plan(small_study, out=tmp_path / "s")
    bar = Recorded()
    with StudyProgress(bar=bar) as show:
        show(planned)
        ((words, share, left_s),) = bar.updates
        assert words.startswith("0/4 trials, 0/8 epochs")
        assert share == 0.0
        assert left_s == pytest.approx(planned.estimate_s, abs=0.5)


def test_what_is_done_already_counts(lines, small_result: dlbench.StudyResult) -> None:
    more = dlbench.grid(model="baseline", learning_rate=[1e-3, 1e-2], seed=[0, 1, 2], **SMALL)
    planned = dlbench.plan(more, out=small_result.folder)
    with StudyProgress() as show:
        show(planned)
        header, line = lines()
        assert header.startswith("4 done, 2 trials to train (lr x 2, seed x 3, ")
        assert line.startswith("4/6 trials, 8/12 epochs, best val acc "), (
            "the trials that are done are among them"
        )
        show(finished(planned.missing[0].id, 0.0))
        assert lines()[-1].startswith("5/6 trials, 10/12 epochs, best val acc ")


def test_quiet_says_nothing(lines, small_study: dlbench.StudySpec, tmp_path: Path) -> None:
    planned = dlbench.plan(small_study, out=tmp_path / "s")
    with StudyProgress(quiet=True) as show:
        show(planned)
        show(finished(planned.trials[0].id, 0.5))
    assert lines() == []


def test_a_cluster_shows_its_nodes_workers_and_rate(
    lines, small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    planned = dlbench.plan(small_study, out=tmp_path / "s")
    ready = [messages.Ready(worker=n, environment={}, node=node) for n, node in enumerate(("a", "a", "b"))]
    with StudyProgress() as show:
        for event in (planned, *ready, finished(planned.trials[0].id, 0.5)):
            show(event)
        assert re.search(r", 2 nodes, 3 workers, [1-9][0-9,]* trials/min, ", lines()[-1])
        show(messages.Left(worker=2))
        show(finished(planned.trials[1].id, 0.5))
        assert ", 1 node, 2 workers, " in lines()[-1]


def test_the_estimate_begins_with_the_plans_and_settles_within_the_first_tenth() -> None:
    assert progress.expected_s(0.0, 0.0, 30.0) == 30.0
    assert progress.expected_s(40.0, 0.0, 30.0) == 40.0, "nothing is done yet, so nothing is known"
    assert progress.expected_s(6.0, 0.001, 30.0) < 35.0, "nor is much of a thousandth"
    for truth in (15.0, 30.0, 60.0):  # whatever the plan thought
        expected = [progress.expected_s(share * truth, share, 30.0) for share in (0.1, 0.3, 0.5, 1.0)]
        assert all(abs(each - truth) <= 0.2 * truth for each in expected)


def test_a_real_terminal_shows_the_bar_and_no_lock_is_waited_for() -> None:
    code = (
        "import time\n"
        "from dlbench.execution import stderr\n"
        "from dlbench.report import terminal\n"
        "from dlbench.report.progress import TerminalBar\n"
        "with terminal.waiting('checking'):\n"
        "    terminal.message('a message while waiting')\n"
        "bar = TerminalBar(terminal._console(terminal._stderr()))\n"
        "bar.update('1/2 trials, compiling Baseline', 0.5, 90.0)\n"
        "bar.say('a message above the bar')\n"
        "time.sleep(0.6)\n"
        "bar.stop()\n"
        "stderr.write('the end\\n')\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    shown = b""
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment) as process:
        os.close(theirs)
        deadline = time.monotonic() + 60
        while b"the end" not in shown and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536)
        process.kill() if process.poll() is None and b"the end" not in shown else process.wait()
    os.close(ours)
    text = shown.decode()
    for words in ("checking", "a message while waiting", "1/2 trials, compiling Baseline", "50%"):
        assert words in text
    assert "about 1 min 30 s left" in text or "about 1 min 29 s left" in text
    assert text.rstrip().endswith("the end")
