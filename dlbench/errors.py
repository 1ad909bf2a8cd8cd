"""Exceptions dlbench raises on purpose.

The tree::

    DlbenchError
    ├── InputError (also ValueError)   what was asked for cannot be done: exit code 2
    │   ├── SpecError                  a flag or field breaks a rule
    │   ├── UnknownNameError           a name that is in no registry
    │   └── ConfigError                a configuration file cannot be read
    ├── DataError                      a data set is absent, damaged or not what it claims: exit code 2
    ├── StoreError                     a study folder cannot be used: exit code 2
    └── WorkerError                    workers could not do their job: exit code 1

A message names the rule, the value, the place and the remedy.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 100
_repr.maxlevel = 2


def shown(value: object) -> str:
    """A value as messages name it: never long, whatever a stranger's file nests or repeats."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python refuses to write numbers of thousands of digits
        return "a number too long to write"


def printable(text: str, kept: str = "") -> str:
    """Text that can neither break its line nor speak to the terminal.

    Args:
        text: what somebody may have chosen.
        kept: control characters that may stay.
    """
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)
    )


class DlbenchError(Exception):
    """Base of every error that dlbench raises on purpose."""

    exit_code = 1


class InputError(DlbenchError, ValueError):
    """What was asked for cannot be done."""

    exit_code = 2


class SpecError(InputError):
    """A flag or field breaks a rule."""


class UnknownNameError(InputError):
    """A name that is in no registry.

    Args:
        kind: what the name stands for ("model", "data set").
        name: the name that was asked for.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        near = difflib.get_close_matches(name.lower()[:200], [n.lower() for n in names], n=1, cutoff=0.5)
        nearest = next((n for n in names if near and n.lower() == near[0]), None)
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        super().__init__(f"unknown {kind} {shown(name)}.{hint} Known: {', '.join(names)}.")
        self.kind, self.name, self.nearest = kind, name, nearest


class ConfigError(InputError):
    """A configuration file cannot be read."""


class DataError(DlbenchError):
    """A data set is absent, damaged or not what it claims to be."""

    exit_code = 2


class StoreError(DlbenchError):
    """A study folder cannot be used."""

    exit_code = 2


class WorkerError(DlbenchError):
    """Workers could not do their job."""
