"""Workers that stay alive from one run to the next: those of the generations of a search, or the looks of a comparison.

They keep what they have compiled, and need not start again. No jax, unless this process trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dlbench.execution import messages
from dlbench.execution.endpoint import End, Endpoint, Receive
from dlbench.execution.place import Place
from dlbench.execution.site import Start, import_path
from dlbench.spec.trial import Trial

if TYPE_CHECKING:
    from dlbench.execution.worker import Worker


class Crew:
    """Keeps workers that a pool closes, and gives them to the next pool; a context manager, which ends them.

    Workers on other machines are not kept, because their room may be needed.
    """

    def __init__(self) -> None:
        self._idle: dict[int, _Kept] = {}
        self._settings: object = None
        self._local: Worker | None = None

    def starter(self, place: Place, trials: Sequence[Trial]) -> Start:
        """As :meth:`dlbench.execution.site.Site.starter`; but a worker with the same settings that is kept is given."""
        start = place.site.starter(place, trials)
        if place.site.is_elastic:
            return start
        self._begin((replace(place, environment=None), import_path(trials)))

        def give(number: int, receive: Receive) -> Endpoint | None:
            kept = self._idle.pop(number, None)
            if kept is not None and kept.attach(receive):
                return kept
            return _Kept.started(start, number, receive, self._idle)

        return give

    def local(self, make: Callable[[], Worker], place: Place) -> Worker:
        """The worker in this process."""
        self._begin(replace(place, environment=None))
        self._local = self._local or make()
        return self._local

    def _begin(self, settings: object) -> None:
        if settings != self._settings:
            self.close()
            self._settings = settings

    def close(self) -> None:
        """End the workers that are kept."""
        self._local = None
        while self._idle:
            self._idle.popitem()[1].end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Kept:
    """A worker that joins the idle ones when its pool closes it; see :class:`~dlbench.execution.endpoint.Endpoint`."""

    _endpoint: Endpoint

    def __init__(self, number: int, receive: Receive, idle: dict[int, _Kept]) -> None:
        self.number = number
        self._receive: Receive | None = receive
        self._idle = idle
        self._is_alive = True
        self._ready: messages.Ready | None = None
        self._spent: dict[str, float] = {}
        self._spent_before: dict[str, float] = {}

    @classmethod
    def started(cls, start: Start, number: int, receive: Receive, idle: dict[int, _Kept]) -> _Kept | None:
        """A worker that starts now; ``None`` if there is no room for it."""
        kept = cls(number, receive, idle)
        endpoint = start(number, kept._pass_on)
        if endpoint is None:
            return None
        kept._endpoint = endpoint
        return kept

    def attach(self, receive: Receive) -> bool:
        """Report to another pool, as a worker that has just started; False if this one has died meanwhile."""
        self._receive, self._spent_before = receive, self._spent
        if self._is_alive and self._ready:
            receive(self, self._ready)
        return self._is_alive

    def send(self, message: messages.AnyCommand) -> None:
        self._endpoint.send(message)

    def kill(self) -> None:
        self._endpoint.kill()

    def close(self) -> None:
        self._receive = None
        self._idle[self.number] = self

    def end(self) -> None:
        """Let the worker exit."""
        self._endpoint.close()

    def how_it_ended(self) -> End:
        return self._endpoint.how_it_ended()

    def _pass_on(self, _: Endpoint, event: messages.AnyEvent | None) -> None:
        if event is None:
            self._is_alive = False
        elif isinstance(event, messages.Ready):
            self._ready = event
        elif isinstance(event, messages.Idle):  # a pool counts the time from its own start
            self._spent = event.spent
            since = {kind: value - self._spent_before.get(kind, 0.0) for kind, value in event.spent.items()}
            event = event.model_copy(update={"spent": since})
        if self._receive:
            self._receive(self, event)
