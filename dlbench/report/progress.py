"""Progress of a study in a terminal."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.text import Text

from dlbench.execution import messages
from dlbench.execution.costs import cost_s
from dlbench.execution.plan import Plan
from dlbench.report import count, duration
from dlbench.report.terminal import _console, _stderr
from dlbench.spec.metrics import metric, metric_of, title

if TYPE_CHECKING:
    from rich.progress import Progress


#: Without a bar, a line is printed at most this often.
_LINE_S = 20.0


class StudyProgress:
    """Shows the progress of a study: a bar in a terminal, otherwise a line every 20 seconds.

    The bar advances by estimated cost instead of by trials, so that the remaining time is useful when large and small
    networks are trained side by side.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.finished, self.total = 0, 0
        self._quiet = quiet
        self._console = _console(_stderr())
        self._bar: Progress | None = None
        self._epochs: dict[str, int] = {}
        self._last_metric = ""
        self._plan: Plan | None = None
        self._start = self._shown_at = time.monotonic()

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        if not self._quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
                refresh_per_second=4,
                expand=True,
                speed_estimate_period=600,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Plan | messages.AnyEvent) -> None:
        """Update the display with an event."""
        from dlbench.execution import messages

        match event:
            case messages.Ready() | messages.Idle() | messages.StateSaved():
                return
            case messages.Notice():
                if event.urgent or not self._quiet:
                    (self._bar.console if self._bar else self._console).print(Text(event.text))
                return
            case messages.Started():
                self._epochs.update(dict.fromkeys(event.trial_ids, 0))
            case messages.EpochEnded():
                self._epochs[event.trial_id] = event.number
                name = self._metrics[event.trial_id]
                if math.isfinite(value := event.epoch.metric(name)):
                    self._last_metric = (
                        f", {title(name).removesuffix(' %')} {metric(name).text(value)}{metric(name).sign}"
                    )
            case messages.Finished() | messages.Failed():
                self.finished += 1
                self._epochs[event.trial_id] = self._whole[event.trial_id]
            case plan:
                self._begin(plan)
        self._show()

    def _begin(self, plan: Plan) -> None:
        self._plan = plan
        self._epochs = {}
        self.finished, self.total = len(plan.done), len(plan.trials)
        self._whole = {trial.id: trial.spec.num_epochs for trial in plan.missing}
        self._metrics = {trial.id: metric_of(trial.spec, "val") for trial in plan.missing}
        self._cost = {trial.id: cost_s(trial) / trial.spec.num_epochs for trial in plan.missing}
        for text in plan.trained_again:
            (self._bar.console if self._bar else self._console).print(Text(text))
        if self._bar is not None:
            self._bar.reset(self._task, total=sum(map(cost_s, plan.missing)))
        elif not self._quiet and plan.missing:
            self._console.print(
                f"{count(len(plan.missing), 'trial')} to train, about {duration(plan.estimate_s)}; {plan.folder}"
            )

    def _show(self) -> None:
        done, whole = sum(self._epochs.values()), sum(self._whole.values())
        words = f"{self.finished}/{self.total} trials, {done}/{whole} epochs{self._last_metric}"
        if self._bar is not None:
            cost = sum(epochs * self._cost[trial_id] for trial_id, epochs in self._epochs.items())
            self._bar.update(self._task, description=words, completed=cost)
        elif not self._quiet and time.monotonic() - self._shown_at > _LINE_S:
            self._shown_at = time.monotonic()
            self._console.print(f"{words}, {duration(self._shown_at - self._start)}")
