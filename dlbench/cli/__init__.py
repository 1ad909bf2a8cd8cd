"""The command line. A command parses its flags, calls the library once, and shows the result.

| module | what it holds |
|---|---|
| `options` | the flags of the commands that train; parsing of several values after one flag |
| `messages` | error messages in which fields have the names of their flags |
| `studies` | train, grid, compare-archs, ablate, search, run, plan |
| `queries` | results, info, data |
| `checks` | replay, and the check of results --check |
| `reports` | report |
| `bench` | bench |
| `app` | the application: all commands, and the conversion of errors to messages and exit codes |

Exit codes: 0 success (diverged trials included); 1 a trial failed, or an internal error; 2 invalid input, nothing is
written; 130 interrupted.
"""

from dlbench.cli.app import app, main

__all__ = ["app", "main"]
