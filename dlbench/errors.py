"""Exceptions dlbench raises on purpose.

The tree::

    DlbenchError
    ├── InputError (also ValueError)   what was asked for cannot be done: exit code 2
    │   ├── SpecError                  a field breaks a rule
    │   ├── UnknownNameError           a name that is in no registry
    │   └── ConfigError                a configuration file cannot be read
    ├── DataError                      a data set is absent, damaged or not what it claims: exit code 2
    ├── StoreError                     a study folder cannot be used: exit code 2
    │   └── DamagedStudyError          what a study's folder holds is not what was recorded
    └── WorkerError                    workers could not do their job: exit code 1

A message names the rule, the value, the place and the remedy. Where it names a field, it does so by a :class:`Field`,
so that a command line can show the flag instead.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Iterable
from typing import Any, Self

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


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``, without regard to case; None if none is like it."""
    if not isinstance(name, str):
        return None
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower()[:200], by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def suggestion(meant: str | None) -> str:
    """The question that follows an unknown name; "" where nothing is near."""
    return f" Did you mean {meant!r}?" if meant else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message of every unknown name: what it is, the nearest known one, and all that are known."""
    names = list(known)
    return f"unknown {kind} {shown(name)}.{suggestion(nearest(name, names))} Known: {', '.join(names)}."


class Field(str):
    """The name of a field inside a message; whoever shows the message may call it by another name."""

    __slots__ = ()


#: The remedy where a study's folder is the trouble.
ANOTHER_OUT = ("choose another ", Field("out"))


class DlbenchError(Exception):
    """Base of every error that dlbench raises on purpose.

    Args:
        message: text, and a :class:`Field` wherever it names a field; joined without spaces.
        field: the field whose value is wrong; the first that the message names unless given.
        value: the value that is wrong.
        place: where the value comes from, such as ``study.yaml:3``; the message begins with it.
        remedy: what can be done, in the same form as ``message``; the message ends with it.
    """

    exit_code = 1

    def __init__(
        self,
        *message: str,
        field: str | None = None,
        value: object = None,
        place: str | None = None,
        remedy: str | tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(*message)
        self.message = message
        self._remedy = (remedy,) if isinstance(remedy, str) else remedy or ()
        self.field = field or next((str(part) for part in message if isinstance(part, Field)), None)
        self.value = value
        self.place = place

    @property
    def remedy(self) -> str | None:
        """What can be done, where that is known."""
        return "".join(self._remedy) or None

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field that it is about, the most important first."""
        named = [str(part) for part in self.message if isinstance(part, Field)]
        return tuple(dict.fromkeys([self.field, *named] if self.field else named))

    def text(self, name_of: Callable[[str], str] = str) -> str:
        """The whole message.

        Args:
            name_of: what to call a field; its own name unless given.
        """
        parts = (*self.message, *(("; ", *self._remedy) if self._remedy else ()))
        said = "".join(name_of(str(part)) if isinstance(part, Field) else part for part in parts)
        return f"{self.place}: {said}" if self.place else said

    def __str__(self) -> str:
        return self.text()


class InputError(DlbenchError, ValueError):
    """What was asked for cannot be done."""

    exit_code = 2

    @classmethod
    def must_be(
        cls,
        field: str,
        rule: str,
        value: object,
        *,
        place: str | None = None,
        remedy: str | tuple[str, ...] | None = None,
    ) -> Self:
        """The error of a field whose value breaks a rule.

        Args:
            field: the field.
            rule: what its value must be, to follow the words "must be".
            value: what it is.
            place: where the value comes from.
            remedy: what can be done.
        """
        message = (Field(field), f" must be {rule}; got {shown(value)}")
        return cls(*message, value=value, place=place, remedy=remedy)


class SpecError(InputError):
    """A field breaks a rule."""


class UnknownNameError(InputError):
    """A name that is in no registry.

    Args:
        kind: what the name stands for ("model", "data set").
        name: the name that was asked for.
        known: the names that exist.
        field: the field that it is the value of.
        remedy: what can be done, where the names that exist do not say it.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        *,
        field: str | None = None,
        remedy: str | tuple[str, ...] | None = None,
    ) -> None:
        names = tuple(known)
        super().__init__(unknown(kind, name, names), field=field, value=name, remedy=remedy)
        self.kind, self.name, self.known, self.nearest = kind, name, names, nearest(name, names)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.name, self.known), self.__dict__


class ConfigError(InputError):
    """A configuration file cannot be read."""

    @classmethod
    def at(cls, place: str, error: DlbenchError) -> Self:
        """The error of a value that stands at a place of a file."""
        return cls(*error.message, field=error.field, value=error.value, place=place, remedy=error._remedy)


class DataError(DlbenchError):
    """A data set is absent, damaged or not what it claims to be."""

    exit_code = 2


class StoreError(DlbenchError):
    """A study folder cannot be used."""

    exit_code = 2


class DamagedStudyError(StoreError):
    """What a study's folder holds is not what was recorded; ``value`` is the folder."""


class StudyInterrupted(KeyboardInterrupt):
    """A signal asked to end, and what was in hand is kept.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number  # as shells count


class FailedTrialsWarning(RuntimeWarning):
    """Trials of a study failed, and its result lacks what they would have shown."""


class WorkerError(DlbenchError):
    """Workers could not do their job."""
