"""Worker processes on this machine, and the communication with them. No jax."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dlbench.execution import devices, messages, stderr
from dlbench.execution.endpoint import End, Receive
from dlbench.execution.environment import configure

if TYPE_CHECKING:
    from dlbench.execution.place import Place

#: Lines of standard error that are kept to explain why a worker died, and bytes of a line.
_KEPT_LINES = 20
_LONGEST_LINE = 2**16
#: Signals that may be sent to the whole process group (by Ctrl-C, a scheduler, a terminal that closes). Workers ignore
#: them, and the parent decides. If the parent has died, workers exit because their pipe is closed.
LEFT_TO_PARENT = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)


class ProcessEndpoint:
    """A worker process.

    Args:
        number: the worker's number.
        place: where and how to train.
        kernels: called while the process starts; returns the compiled kernels to use, see
            :data:`dlbench.ops.native.VARIABLE`.
        path: folders in which the worker looks for models, besides its own.
        receive: called from a thread with each event of the worker.
    """

    def __init__(
        self,
        number: int,
        place: Place,
        kernels: Callable[[], str | None],
        path: tuple[str, ...],
        receive: Receive,
    ) -> None:
        self.number = number
        self._receive = receive
        self._last_lines: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closing = False
        self._setup = functools.partial(
            messages.Setup,
            worker=number,
            data_dir=place.data_dir,
            checkpoint_every=place.checkpoint_every,
            keep_state=place.keep_state,
            sys_path=path,
            started=time.monotonic(),
            cores=place.cores,
        )
        self._kernels = kernels
        environ = dict(os.environ)
        configure(environ, place.device)
        if place.device == "gpu" and place.workers > 1:
            environ["CUDA_VISIBLE_DEVICES"] = devices.gpus()[number]
        with held_back(LEFT_TO_PARENT):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dlbench.execution.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ,
            )
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._write, self._read, self._forward_stderr)
        ]
        for thread in self._threads:
            thread.start()

    def send(self, message: messages.AnyCommand) -> None:
        """See :class:`~dlbench.execution.endpoint.Endpoint`."""
        self._outgoing.put(messages.encode(message))

    def kill(self) -> None:
        """See :class:`~dlbench.execution.endpoint.Endpoint`."""
        self._process.kill()
        self._process.wait()
        self._outgoing.put(None)

    def close(self) -> None:
        """See :class:`~dlbench.execution.endpoint.Endpoint`."""
        self._closing = True
        self._outgoing.put(None)
        self._process.wait()

    def how_it_ended(self) -> End:
        """See :class:`~dlbench.execution.endpoint.Endpoint`."""
        code = self._process.wait()
        self._outgoing.put(None)
        self._threads[2].join(timeout=1.0)
        ended = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return End(ended, b"".join(self._last_lines).decode(errors="replace"))

    def _write(self) -> None:
        stream = self._process.stdin
        assert stream is not None
        try:
            frame: bytes | None = messages.encode(self._setup(kernels=self._kernels()))
        except Exception as error:  # without the message, the worker would wait forever
            self._last_lines.append(f"{type(error).__name__}: {error}".encode(errors="replace"))
            self._process.kill()
            return
        while frame is not None:
            try:
                stream.write(frame)
                stream.flush()
            except OSError:
                return  # the worker has died; the reading thread reports it
            frame = self._outgoing.get()
        with contextlib.suppress(OSError):
            stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while (event := messages.read_event(self._process.stdout)) is not None:
                self._receive(self, event)
        except ValueError:  # a message of another version
            self._process.kill()
        if not self._closing:
            self._receive(self, None)

    def _forward_stderr(self) -> None:
        """Forward everything that the worker or a user's model prints to standard error, and keep the last lines.

        The pipe is read to its end even if forwarding fails, so that the worker never blocks on a closed terminal.
        """
        assert self._process.stderr is not None
        while line := self._process.stderr.readline(_LONGEST_LINE):
            self._last_lines.append(line)
            stderr.write(line.decode(errors="replace"))


@contextlib.contextmanager
def held_back(numbers: tuple[int, ...]) -> Iterator[None]:
    """Block signals in this thread. A process that is started meanwhile inherits this, until it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
