"""Exceptions dlbench raises on purpose.

The tree::

    DlbenchError
    ├── InputError (also ValueError)   what was asked for cannot be done: exit code 2
    │   ├── SpecError                  a field breaks a rule
    │   ├── UnknownNameError           a name that is in no registry
    │   └── ConfigError                a configuration file cannot be read
    ├── DataError                      a data set is missing, damaged or not the expected one: exit code 2
    ├── StoreError                     a study folder cannot be used: exit code 2
    │   └── DamagedStudyError          the content of a study folder differs from what was recorded
    └── WorkerError                    workers cannot be started or have failed: exit code 1

A message names the rule, the value, the place and the remedy. Field names in it are :class:`Field` objects, so that
a command line can show the flag instead.
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
    """A short representation of a value for messages, however long or deeply nested the value is."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python refuses to convert numbers of thousands of digits to text
        return "a number too long to show"


def printable(text: str, kept: str = "") -> str:
    """Escape all characters that would break the line or control the terminal.

    Args:
        text: any text.
        kept: control characters to keep.
    """
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)
    )


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name most similar to ``name``, ignoring case; None if none is similar."""
    if not isinstance(name, str):
        return None
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower()[:200], by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def suggestion(meant: str | None) -> str:
    """The question that follows an unknown name; empty if there is no similar name."""
    return f" Did you mean {meant!r}?" if meant else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for an unknown name: the name, the most similar known name, and all known names."""
    names = list(known)
    return f"unknown {kind} {shown(name)}.{suggestion(nearest(name, names))} Known: {', '.join(names)}."


class Field(str):
    """The name of a field inside a message; it can be shown under another name, such as a flag."""

    __slots__ = ()


#: The remedy for problems with a study's folder.
ANOTHER_OUT = ("choose another ", Field("out"))


class DlbenchError(Exception):
    """Base of every error that dlbench raises on purpose.

    Args:
        message: the parts of the message, joined without spaces; field names are :class:`Field` objects.
        field: the field whose value is wrong; by default the first one in the message.
        value: the value that is wrong.
        place: where the value comes from, such as ``study.yaml:3``; the message begins with it.
        remedy: what the user can do, in the same form as ``message``; the message ends with it.
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
        """What the user can do, if known."""
        return "".join(self._remedy) or None

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that the error is about, the most important first."""
        named = [str(part) for part in self.message if isinstance(part, Field)]
        return tuple(dict.fromkeys([self.field, *named] if self.field else named))

    def text(self, name_of: Callable[[str], str] = str) -> str:
        """The whole message.

        Args:
            name_of: returns the name under which to show a field; by default the field's own name.
        """
        parts = (*self.message, *(("; ", *self._remedy) if self._remedy else ()))
        text = "".join(name_of(str(part)) if isinstance(part, Field) else part for part in parts)
        return f"{self.place}: {text}" if self.place else text

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
            rule: what the value must be; follows the words "must be".
            value: the value given.
            place: where the value comes from.
            remedy: what the user can do.
        """
        message = (Field(field), f" must be {rule}; got {shown(value)}")
        return cls(*message, value=value, place=place, remedy=remedy)


class SpecError(InputError):
    """A field breaks a rule."""


class UnknownNameError(InputError):
    """A name that is in no registry.

    Args:
        kind: what the name refers to ("model", "data set").
        name: the unknown name.
        known: the known names.
        field: the field whose value the name is.
        remedy: what the user can do, beyond choosing one of the known names.
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
        """Convert an error about a value into one that names the value's place in a file."""
        return cls(*error.message, field=error.field, value=error.value, place=place, remedy=error._remedy)


class DataError(DlbenchError):
    """A data set is missing, damaged or not the expected one."""

    exit_code = 2


class StoreError(DlbenchError):
    """A study folder cannot be used."""

    exit_code = 2


class DamagedStudyError(StoreError):
    """The content of a study folder differs from what was recorded; ``value`` is the folder."""


class StudyInterrupted(KeyboardInterrupt):
    """A signal interrupted the study; the state of running trials is saved.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number  # as shells count


class FailedTrialsWarning(RuntimeWarning):
    """Trials of a study failed, and its result lacks what they would have shown."""


class WorkerError(DlbenchError):
    """Workers cannot be started or have failed."""
