"""The interface between the pool and a worker, wherever the worker runs. No jax."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from dlbench.execution import messages

#: Called with each event of a worker, and with ``None`` when it has exited.
Receive = Callable[["Endpoint", "messages.AnyEvent | None"], None]


class End(NamedTuple):
    """How a worker exited.

    ``words``: what follows "a worker", such as "was killed by SIGKILL"; if its node was lost, a sentence that says so.
    ``last_lines``: the end of what it wrote to standard error. ``is_loss``: whether its node was lost, which says
    nothing about the trial.
    """

    words: str
    last_lines: str = ""
    is_loss: bool = False


class Endpoint(Protocol):
    """The interface between the pool and a worker."""

    number: int

    def send(self, message: messages.AnyCommand) -> None:
        """Send a message without blocking. If the worker has died, the message is dropped, without an error."""

    def kill(self) -> None:
        """Kill the worker and wait until it has exited."""

    def close(self) -> None:
        """Let an idle worker exit by itself, and wait until it has."""

    def how_it_ended(self) -> End:
        """How the worker exited."""
