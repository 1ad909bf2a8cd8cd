"""Runs ``dlbench`` in a process of its own, without the time in which Python starts and imports it.

One process has imported what commands import, and forks for every command. It has not imported jax, whose threads do
not survive a fork. Tests about how ``dlbench`` starts, about signals and about broken streams start Python themselves.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import dlbench
from dlbench.cli import main

#: What commands import besides the command line.
IMPORTED = (
    "dlbench.analysis.comparison",
    "dlbench.report.exports",
    "dlbench.report.figures",
    "dlbench.report.figures.picture",
    "dlbench.report.page",
    "dlbench.report.plots",
    "dlbench.report.progress",
    "dlbench.report.terminal",
    "dlbench.spec.config",
    "dlbench.studies.growing",
    "dlbench.studies.replay",
    "dlbench.studies.running",
    "dlbench.studies.searching",
)
#: A request is at most this long.
SIZE = 2**20
PROGRAM = str(Path(dlbench.__file__).with_name("__main__.py"))


def run(
    *words: object,
    cwd: Path | str = ".",
    env: Mapping[str, str] | None = None,
    memory: int = resource.RLIM_INFINITY,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """What ``python -m dlbench`` would give.

    Args:
        words: the arguments.
        cwd: the working folder.
        env: all environment variables; by default those of this process.
        memory: bytes that the command may allocate.
        timeout: seconds after which the server is given up.
    """
    request = {
        "words": [str(word) for word in words],
        "cwd": os.path.abspath(cwd),
        "env": dict(os.environ if env is None else env),
        "memory": memory,
    }
    connection = _server()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        connection.settimeout(timeout)
        socket.send_fds(connection, [json.dumps(request).encode()], [out.fileno(), err.fileno()])
        answer = connection.recv(SIZE)
        assert answer, "the server has ended"
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(
            [sys.executable, "-m", "dlbench", *request["words"]], int(answer), *_texts(out.read(), err.read())
        )


def _texts(*outputs: bytes) -> list[str]:
    return [output.decode().replace("\r\n", "\n").replace("\r", "\n") for output in outputs]


@functools.cache
def _server() -> socket.socket:
    """The connection to the server, which is no child of this process: tests look at the children that it has."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SIZE)
    subprocess.run(
        [sys.executable, "-P", __file__, str(its.fileno())],
        pass_fds=[its.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
        start_new_session=True,
    )
    its.close()
    return mine


def _serve(connection: socket.socket) -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    assert "jax" not in sys.modules
    gc.freeze()
    while True:
        message, streams, _, _ = socket.recv_fds(connection, SIZE, 2)
        if not message:
            return
        child = os.fork()
        if not child:
            connection.close()
            _become(json.loads(message), streams)
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict, streams: list[int]) -> None:
    """Be the command, and exit."""
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in given if path and path not in sys.path]
    sys.argv = [PROGRAM, *request["words"]]
    main()


if __name__ == "__main__" and not os.fork():
    _serve(socket.socket(fileno=int(sys.argv[1])))
