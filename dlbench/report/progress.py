"""Progress of a study in a terminal or a notebook."""

from __future__ import annotations

import statistics
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.text import Text

from dlbench.analysis.configurations import Summary
from dlbench.execution import messages
from dlbench.execution.costs import END_S, START_S, compiling_s, cost_s
from dlbench.execution.plan import Plan
from dlbench.records import Outcome
from dlbench.report import count, duration
from dlbench.report.tables import plus_minus
from dlbench.report.terminal import _console, _stderr
from dlbench.spec.metrics import metric, selection_metric, title
from dlbench.spec.naming import field_title, phrase
from dlbench.spec.programs import programs
from dlbench.spec.registry import label
from dlbench.spec.trial import REPLICATES, TrialSpec
from dlbench.stats import mean_interval
from dlbench.storage.store import Store
from dlbench.storage.studies import holds_study

if TYPE_CHECKING:
    from rich.console import Console


#: Without a bar, a line is printed at most this often.
_LINE_S = 20.0
_REFRESH_S = 0.25


class Bar(Protocol):
    """What shows progress: a bar of a terminal or of a notebook."""

    def update(self, words: str, share: float, left_s: float) -> None:
        """Show that this share of the work is done, and that the rest will take about so many seconds."""

    def say(self, text: str) -> None:
        """Show a message above the bar."""

    def stop(self) -> None:
        """Remove the bar."""


class TerminalBar:
    """A bar in a terminal.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn

        class Left(ProgressColumn):
            """The time until the expected end, which goes on between updates."""

            def render(self, task: Task) -> Text:
                if task.fields["end"] is None:
                    return Text()
                left_s = max(0.0, task.fields["end"] - time.monotonic())
                return Text(f"about {duration(left_s) if left_s >= 60 else f'{left_s:.0f} s'} left")

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            Left(),
            console=console,
            transient=True,
            refresh_per_second=1 / _REFRESH_S,
            expand=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("starting", total=1.0, end=None)

    def update(self, words: str, share: float, left_s: float) -> None:
        """Show that this share of the work is done, and that the rest will take about so many seconds."""
        end = time.monotonic() + left_s
        self._progress.update(self._task, description=words, completed=share, end=end)

    def say(self, text: str) -> None:
        """Show a message above the bar."""
        self._progress.console.print(Text(text))

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()


class StudyProgress:
    """Shows the progress of a study: a bar in a terminal or a notebook, otherwise a line every 20 seconds.

    The bar advances by estimated cost instead of by trials, so that the remaining time is useful when large and small
    networks are trained side by side.

    Args:
        quiet: show nothing.
        bar: the bar to use; by default one in the terminal, if there is one.
    """

    def __init__(self, quiet: bool = False, bar: Bar | None = None) -> None:
        self.finished, self.total = 0, 0
        self._quiet = quiet
        self._console = _console(_stderr())
        self._bar = bar
        self._start = self._shown_at = time.monotonic()
        self._first: tuple[float, int] | None = None  # when a worker was ready, and the trials done by then

    def __enter__(self) -> Self:
        if self._bar is None and not self._quiet and self._console.is_terminal:
            self._bar = TerminalBar(self._console)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Plan | messages.AnyEvent) -> None:
        """Update the display with an event."""
        match event:
            case messages.Ready():
                self._nodes[event.worker] = event.node
                if self._first is None:
                    self._first = (time.monotonic(), self.finished)
                return
            case messages.Left():
                self._nodes.pop(event.worker, None)
                return
            case messages.Idle() | messages.StateSaved() | messages.Copied():
                return
            case messages.Notice():
                if event.urgent or not self._quiet:
                    self._say(event.text)
                return
            case messages.Started():
                self._epochs.update(dict.fromkeys(event.trial_ids, 0))
                self._workers.update(dict.fromkeys(event.trial_ids, event.worker))
            case messages.Compiling():
                self._compiling[event.worker] = label(self._trials[event.trial_id].spec.model)
            case messages.Compiled():
                self._compiled(event.trial_id)
            case messages.EpochEnded():
                self._epochs[event.trial_id] = event.number
            case messages.Finished():
                self._end(event.trial_id)
                self._add(event.trial_id, event.outcome)
            case messages.Failed():
                self._end(event.trial_id)
            case plan:
                self._begin(plan)
        now = time.monotonic()
        if not self._quiet and now - self._shown_at > (_LINE_S if self._bar is None else _REFRESH_S):
            self._show(now)

    def _begin(self, plan: Plan) -> None:
        self._trials = {trial.id: trial for trial in plan.trials}
        self._metric = selection_metric(trial.spec for trial in plan.trials)
        self._epochs = {trial_id: self._trials[trial_id].spec.num_epochs for trial_id in plan.done}
        self._workers: dict[str, int] = {}
        self._compiling: dict[int, str] = {}
        self._nodes: dict[int, str] = {}
        self._first = None
        self._values: dict[TrialSpec, list[float]] = {}
        self._axes = [name for name in plan.study.axes if name not in REPLICATES] or ["model"]
        if plan.done and plan.missing and holds_study(plan.folder):
            with Store(plan.folder) as store:
                for result in store.results(history=False):
                    if result.id in plan.done:
                        self._add(result.id, result.outcome)
        self.finished, self.total = len(plan.done), len(plan.trials)
        compiled = programs(plan.missing)
        self._programs = len(compiled)  # still to be compiled
        self._compile_s = compiling_s(compiled) / max(self._programs, 1)
        self._num_workers = max(plan.workers, 1)
        for text in (*plan.trained_again, *([] if self._quiet else [*plan.copied, *plan.machines])):
            self._say(text)
        self._begun = time.monotonic()
        self._estimate_s = plan.estimate_s
        self._total_s = self._left_s() if plan.missing else 0.0
        if not self._quiet and plan.missing:
            done = f"{len(plan.done):,} done, " if plan.done else ""
            self._say(
                f"{done}{count(len(plan.missing), 'trial')} to train ({_in_words(plan)}), about "
                f"{duration(self._estimate_s)}; {plan.folder}"
            )
            if self._bar is not None:  # begins with the estimate
                self._show(self._begun)

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.say(text)
        else:
            self._console.print(Text(text))

    def _compiled(self, trial_id: str) -> None:
        if self._compiling.pop(self._workers.get(trial_id, -1), None):
            self._programs -= 1

    def _add(self, trial_id: str, outcome: Outcome) -> None:
        """Count the validation metric of a trial that has ended."""
        if (value := outcome.metrics.get(self._metric)) is not None:
            spec = self._trials[trial_id].spec.model_copy(update=dict.fromkeys(REPLICATES))
            self._values.setdefault(spec, []).append(value)

    def _end(self, trial_id: str) -> None:
        self.finished += 1
        self._epochs[trial_id] = self._trials[trial_id].spec.num_epochs
        self._compiled(trial_id)

    def _show(self, now: float) -> None:
        self._shown_at = now
        whole = sum(trial.spec.num_epochs for trial in self._trials.values())
        words = (
            f"{self.finished}/{self.total} trials, {sum(self._epochs.values())}/{whole} epochs{self._best()}"
        )
        if self._compiling:
            words += f", compiling {', '.join(sorted(set(self._compiling.values())))}"
        if self._first and (machines := {*self._nodes.values()} - {""}):
            since, before = self._first
            rate = 60 * (self.finished - before) / (now - since)
            words += f", {count(len(machines), 'node')}, {count(len(self._nodes), 'worker')}, {rate:.0f} trials/min"
        share = max(0.0, 1 - self._left_s() / self._total_s) if self._total_s else 1.0
        left_s = expected_s(now - self._begun, share, self._estimate_s) - (now - self._begun)
        if self._bar is not None:
            self._bar.update(words, share, max(left_s, 0.0))
        else:
            self._say(f"{words}, {duration(now - self._start)}, about {duration(max(left_s, 0.0))} left")

    def _left_s(self) -> float:
        """The work that is left, by estimated cost, in seconds of one core."""
        left = sum(
            cost_s(trial) * (1 - self._epochs.get(trial_id, 0) / trial.spec.num_epochs)
            for trial_id, trial in self._trials.items()
        )
        waiting = END_S + (START_S if self._first is None else 0.0)
        return left + self._num_workers * waiting + self._compile_s * max(self._programs, 0)

    def _best(self) -> str:
        """The best configuration of those trained so far, by the mean of its validation metric."""
        if not self._values:
            return ""
        known = metric(self._metric)
        choose = min if known.lower_is_better else max
        best = choose(self._values, key=lambda spec: statistics.fmean(self._values[spec]))
        values = self._values[best]
        found = plus_minus(Summary(mean_interval(values), tuple(values)), known) + known.sign
        where = ", ".join(phrase(name, getattr(best, name)) for name in self._axes)
        return f", best {title(self._metric).removesuffix(' %')} {found} ({where})"


#: Where this share of the work is done, the time it took weighs as much as the estimate of the plan.
_EVEN = 0.05


def expected_s(elapsed_s: float, share: float, estimate_s: float) -> float:
    """How long a study will have taken: as the plan estimates at first, and soon by what was measured.

    Args:
        elapsed_s: seconds since its beginning.
        share: the share of the work that is done.
        estimate_s: the estimate of the plan.
    """
    planned = max(estimate_s, elapsed_s)
    if not share:
        return planned
    weight = share**2 / (share**2 + _EVEN**2)
    return weight * elapsed_s / share + (1 - weight) * planned


def _in_words(plan: Plan) -> str:
    """What is trained: the fields that vary, with the number of their values, and what all trials share."""
    axes, spec = plan.study.axes, plan.trials[0].spec
    shared = {
        "model": label(spec.model),
        "train_size": f"{spec.train_size:,} images" if spec.train_size else "",
        "dataset": spec.dataset.partition("@")[0],
        "num_epochs": count(spec.num_epochs, "epoch"),
    }
    varied = [f"{field_title(name)} x {len(values)}" for name, values in axes.items()]
    return ", ".join([*varied, *(text for name, text in shared.items() if name not in axes and text)])
