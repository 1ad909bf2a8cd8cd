"""The main loop of a process that measures: it answers requests, one JSON line each, until its parent exits."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until standard input is closed. Standard output is redirected to standard error.

    Args:
        handlers: the functions that can be requested, by name; arguments and answers are JSON.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interruptions
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": handlers[request["do"]](**request["with"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def peak_bytes() -> int:
    """The largest amount of resident memory that this process has used, in bytes."""
    try:  # not ru_maxrss, which on Linux starts at the value of the parent process
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return held if sys.platform == "darwin" else 1024 * held
