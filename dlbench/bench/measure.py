"""Start processes that measure, and communicate with them. No jax.

They have the environment of dlbench's workers (:func:`dlbench.execution.environment.configure`), except that the number
of threads can be chosen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dlbench.errors import WorkerError
from dlbench.execution.environment import configure

_THREAD_VARIABLES = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TAIL_BYTES = 2000


class Subject:
    """A process that measures on request.

    Args:
        module: the module that it runs.
        threads: number of threads.
        cache_dir: folder of its persistent compilation cache.
        device: the kind of device that jax computes on.
        variables: further environment variables.
    """

    def __init__(
        self, module: str, threads: int, cache_dir: Path, device: str = "cpu", **variables: str
    ) -> None:
        self._module = module
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(threads, cache_dir, device) | variables,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def send(self, do: str, **arguments: Any) -> None:
        """Send a request.

        Raises:
            WorkerError: the process has exited.
        """
        assert self._process.stdin is not None
        try:
            print(json.dumps({"do": do, "with": arguments}), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._exit_error() from None

    def receive(self) -> Any:
        """Wait for the answer.

        Raises:
            WorkerError: the process has exited, or the request failed.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._exit_error()
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self._module}: {answer['error']}")
        return answer["answer"]

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send a request and wait for the answer."""
        self.send(do, **arguments)
        return self.receive()

    def _exit_error(self) -> WorkerError:
        code = self._process.wait()
        return WorkerError(f"{self._module} ended with exit code {code}:\n{error_tail(self._errors)}")


def ask_all(subjects: Sequence[Subject], do: str, **arguments: Any) -> list[Any]:
    """Send the same request to all processes at the same time, and wait for all answers."""
    for subject in subjects:
        subject.send(do, **arguments)
    return [subject.receive() for subject in subjects]


def environment(threads: int, cache_dir: Path, device: str = "cpu") -> dict[str, str]:
    """The environment of a process that computes on a device, or on the CPU with the given number of threads."""
    environ = dict(os.environ)
    configure(environ, device)
    environ["JAX_COMPILATION_CACHE_DIR"] = str(cache_dir)
    return environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))


def error_tail(file: Any) -> str:
    """The last characters that a process has written to its standard error."""
    file.seek(0)
    return str(file.read()[-_TAIL_BYTES:].decode(errors="replace")).strip()
