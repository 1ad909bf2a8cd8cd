"""The progress of a study in a terminal: what each event changes."""

from __future__ import annotations

import re
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
        assert header.startswith("4 trials to train, about ")
        assert line.startswith("0/4 trials, 0/8 epochs, ")
        show(messages.Started(worker=0, trial_ids=(first,)))
        show(messages.Compiling(worker=0, trial_id=first))
        assert ", compiling Baseline, " in lines()[-1]
        show(messages.EpochEnded(trial_id=first, number=1, values=(1, 0.5, 1, 0.5, None)))
        assert lines()[-1].startswith("0/4 trials, 1/8 epochs, ")
        show(finished(first, 0.5))
        assert lines()[-1].startswith("1/4 trials, 2/8 epochs, best val acc 50.00 % (Baseline), ")
        show(finished(second, 0.25))  # the other seed
        assert ", best val acc 50.00, 25.00 % (Baseline), " in lines()[-1]
        show(finished(third, 0.75))  # the other rate
        assert ", best val acc 75.00 % (Baseline), " in lines()[-1]


def test_what_is_done_already_counts(lines, small_result: dlbench.StudyResult) -> None:
    more = dlbench.grid(model="baseline", learning_rate=[1e-3, 1e-2], seed=[0, 1, 2], **SMALL)
    planned = dlbench.plan(more, out=small_result.folder)
    with StudyProgress() as show:
        show(planned)
    assert lines()[0].startswith("4 done, 2 trials to train, about ")


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
