"""The command line: parse, one library call, one render call.

| module | what it holds |
|---|---|
| `options` | the flags of the commands that train, declared once; several values after one flag |
| `messages` | errors with fields called by their flags |
| `studies` | train, grid, compare-archs, run, plan |
| `queries` | results, info, data |
| `bench` | bench |
| `app` | the commands put together; every error becomes one line and an exit code |

Exit codes: 0 done (a diverged trial is a result); 1 a trial failed, or dlbench did; 2 wrong input, nothing
written; 130 interrupted.
"""

from dlbench.cli.app import app, main

__all__ = ["app", "main"]
