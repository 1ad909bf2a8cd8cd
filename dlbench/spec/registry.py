"""Names of parts → where their code lives. No jax, and no import of anybody's code until it is asked for.

A part is a model, an optimizer, a schedule, a criterion, a metric, a transform or a data set. It is known by a
*reference*: the canonical name of a built-in one, or ``module:attribute`` for a user's. What a built-in part is called,
takes and does is declared where it is defined, and is read from there without importing it
(:mod:`dlbench.spec.declarations`). Users reach models of their own by that reference, by the decorator
:func:`register_model`, or by an entry point of the group
``dlbench.models``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dlbench.errors import Field, InputError, SpecError, UnknownNameError, nearest, shown, suggestion
from dlbench.records import digest
from dlbench.spec import live_code, own_code, parts, ranges, sources, switches
from dlbench.spec.declarations import (
    Declaration,
    Default,
    Signature,
    call_parameters,
    declarations,
    names_defined,
    signature,
)
from dlbench.spec.parts import Arguments, Scalar
from dlbench.spec.sources import Source

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_PACKAGE = Path(__file__).parent.parent
F = TypeVar("F", bound=Callable[..., Any])


def name_key(name: str) -> str:
    """The form in which names are compared: no case, hyphens, underscores or spaces."""
    return re.sub(r"[-_ ]", "", name).casefold()


class Registry:
    """The parts of one kind, by name.

    Args:
        kind: what people call such a part.
        variable: the name of this registry where built-in parts register themselves.
        place: the file or folder of dlbench, below the package, that defines them.
        supplied: the arguments that dlbench itself gives them.
        composes: whether ``+`` composes several parts of this kind into one. The arguments of such a sum carry the
            name of their part: ``crop.padding``.
        prefix: what the names of parts begin with in a trial; it may be left out where a part is named.
        choices: arguments that are said of users' parts and not given to them, with their values, the default first:
            ``{"better": "higher|lower"}``.
        field: the field of a trial that names such a part, where it is not called as the kind is.
    """

    def __init__(
        self,
        kind: str,
        variable: str,
        place: str,
        supplied: Iterable[str] = (),
        composes: bool = False,
        prefix: str = "",
        choices: Mapping[str, str] | None = None,
        field: str = "",
    ) -> None:
        self.kind = kind
        self.field = field or kind
        self.composes = composes
        self.prefix = prefix
        self._choices = choices or {}
        self._variable, self._place = variable, place
        #: The entry-point group in which others offer theirs.
        self._group = f"dlbench.{variable.lower()}"
        #: The arguments that dlbench itself gives.
        self.supplied = frozenset(supplied)
        self._registered: dict[str, str] = {}
        #: References of users' parts that this process has named itself: those whose code may be run.
        self._trusted: set[str] = set()

    def register(
        self,
        name: str,
        *,
        aliases: tuple[str, ...] = (),
        compared: int | None = None,
        dynamic: tuple[str, ...] = (),
        ranges: Mapping[str, str] | None = None,
        requires: Mapping[str, str] | None = None,
        targets: str = "",
        better: str = "higher",
        unit: str = "",
    ) -> Callable[[F], F]:
        """Decorator: make a class or function known under a name.

        It is called with what dlbench supplies and with the arguments that the trial names. Worker processes import
        the module that defines it. Its source is read, not run, to know its arguments, so whatever is given here
        must be a literal.

        Args:
            name: its name; case, hyphens, underscores and spaces are ignored where it is looked up.
            aliases: other names.
            compared: of a built-in part: its place in a comparison that names no part; ``None`` where it has none.
            dynamic: arguments whose values change no shape: it is called with arrays for them inside the compiled
                program, which trials with different values share. A value of 0 where 0 is the default turns the
                argument off; it is given as it is.
            ranges: the possible values of arguments, as intervals of numbers or choices of text:
                ``{"momentum": "[0, 1)", "per": "step|epoch"}``.
            requires: the values that other fields of a trial must have beside it: ``{"decay_mode": "decoupled"}``.
            targets: of a built-in part: what it is for, targets that are "classes" or "numbers"; "" for both.
            better: of a built-in metric: whether "higher" or "lower" values are better.
            unit: of a built-in metric: the unit in which differences are shown.

        Raises:
            InputError: the name is taken by a built-in part.
        """

        def decorate(factory: F) -> F:
            if factory.__module__.startswith(self._module(self._place)):
                return factory  # dlbench's own, which is read from its file
            for taken in (name, *aliases):
                if self._key(taken) in self._by_key:
                    raise InputError(
                        f"the {self.kind} name {taken!r} belongs to a built-in {self.kind}",
                        field=self.field,
                        value=taken,
                        remedy="choose another",
                    )
                self._registered[taken] = f"{factory.__module__}:{factory.__qualname__}"
            return factory

        return decorate

    @functools.cached_property
    def built_in(self) -> Mapping[str, Declaration]:
        """What dlbench's own parts declare, by canonical name."""
        return {found.name: found for found, _ in self._found}

    @property
    def compared(self) -> tuple[str, ...]:
        """The parts that a comparison takes where it names none."""
        return tuple(found.name for found in self.built_in.values() if found.compared)

    def names(self) -> list[str]:
        """Every part that is known by name now: built in, registered, or offered by an entry point."""
        return [*self.built_in, *(self.prefix + name for name in self.users_own())]

    def users_own(self) -> dict[str, str]:
        """The references of the parts that users have registered, or that an entry point offers, by name."""
        return self._registered | self._offered()

    def parse(self, text: str) -> tuple[str, Arguments] | None:
        """Take the arguments of a part out of its text.

        Args:
            text: a part as people write it.

        Returns:
            Its name and arguments; those of a sum by their path. ``None`` where the text is a name alone.

        Raises:
            ValueError: it is malformed. The message completes "must be".
        """
        if not parts.is_call(text):
            return None
        found = parts.parse_sum(text) if self.composes else (parts.parse(text),)
        called = "+".join(part.name for part in found)
        return called, parts.joined(found) if self.composes else found[0].arguments

    def pieces(self, reference: str) -> list[str]:
        """The parts that ``+`` composes; the part itself where there is one, or where parts of this kind do not."""
        return parts.split(reference, "+") if self.composes else [reference]

    def find(self, name: str) -> str | None:
        """The reference of a part, if there is one: a built-in one's canonical name or ``module:attribute``.

        The reference of a sum is that of its parts, joined by ``+``.
        """
        pieces = self.pieces(name)
        if len(pieces) > 1:
            found = [self.find(piece) for piece in pieces]
            return None if None in found else "+".join(map(str, found))
        if _REFERENCE.fullmatch(bare := name.removeprefix(self.prefix)):
            return self._canonical(bare)
        wanted = self._key(name)
        if wanted in self._by_key:
            return self._by_key[wanted]
        users = self.users_own()
        return next((users[known] for known in users if self._key(known) == wanted), None)

    def resolve(self, name: str, field: str | None = None) -> str:
        """The reference of a part that the user names, whose code may be run from now on.

        Args:
            name: a name in any spelling, or a reference.
            field: the field that names it, for errors; by default the kind's own.

        Raises:
            InputError: it is malformed, or has arguments.
            UnknownNameError: with the known names and the nearest.
        """
        field = field or self.field
        try:
            parts.parse_name(name)
        except ValueError as error:
            raise InputError.must_be(field, str(error), name) from None
        pieces = self.pieces(name)
        if len(pieces) > 1:
            found = [self.resolve(piece, field) for piece in pieces]
            if twice := next((each for each in found if found.count(each) > 1), None):
                raise InputError.must_be(
                    field, f"a sum of different parts ({label(twice)} stands twice)", name
                )
            return "+".join(found)
        found_one = self.find(name)
        if found_one is not None:
            self._trusted |= {found_one, name}
            return found_one
        if ":" in name:
            raise InputError.must_be(field, "a known name, or of the form package.module:Attribute", name)
        raise self.unknown(name, field)

    def unknown(self, name: str, field: str | None = None) -> UnknownNameError:
        """The error of a name that is not known: with the known names, the nearest, and what may have been meant."""
        return UnknownNameError(self.kind, name, self.names(), field=field, remedy=self._meant(name))

    def _meant(self, name: str) -> str | None:
        module, dot, attribute = name.rpartition(".")
        if not (dot and module.replace(".", "").isidentifier() and attribute.isidentifier()):
            return None
        return f"one of your own is named by module and attribute: '{module}:{attribute}'"

    def is_trusted(self, reference: str) -> bool:
        """Whether its code may be run: it is built in, or this process has named it."""
        return all(each in self._trusted for each in self.users(reference))

    def check_trusted(self, reference: str, field: str | None = None) -> None:
        """Refuse to run somebody's code because a stored study names it.

        Args:
            reference: of the part.
            field: the field that names it.

        Raises:
            InputError: the part is neither built in nor named by this process.
        """
        if not self.is_trusted(reference):
            resolve = (
                "dlbench.resolve_model"
                if self is MODELS
                else f"dlbench.spec.registry.{self._variable}.resolve"
            )
            raise InputError(
                f"the stored study names the {self.kind} {reference!r}, which is code outside dlbench",
                field=field or self.field,
                value=reference,
                remedy=(
                    *(
                        "if you trust it, name it yourself: ",
                        Field(field or self.field),
                        f" {reference}, or ",
                    ),
                    f"{resolve}({reference!r}) from Python",
                ),
            )

    def check_defined(self, reference: str) -> None:
        """Make sure that a user's part is defined where its reference says, as far as its source tells.

        Raises:
            InputError: the module defines no such name.
        """
        for piece in self.users(reference):
            module, _, attribute = piece.partition(":")
            if live_code.is_in_memory(piece):
                continue
            known = names_defined(_source_file(piece, self.kind).read_text("utf-8", errors="replace"))
            first = attribute.partition(".")[0]
            if known is not None and first not in known:
                meant = suggestion(nearest(first, known))
                raise InputError(
                    f"{self.kind} {piece!r}: the module {module!r} defines no {first!r}.{meant}".removesuffix(
                        "."
                    ),
                    field=self.field,
                    value=piece,
                )

    def users(self, reference: str) -> list[str]:
        """The parts of a reference that are not dlbench's own."""
        return [piece for piece in self.pieces(reference) if not self._is_own(piece)]

    def _is_own(self, reference: str) -> bool:
        return reference in self.built_in

    def signature(self, reference: str) -> Signature:
        """What a part can be made with; open and empty where that cannot be read from its source."""
        if self.composes:
            return _joined({label(each): self._signature_of_one(each) for each in self.pieces(reference)})
        return self._signature_of_one(reference)

    def _signature_of_one(self, reference: str) -> Signature:
        if self._is_own(reference):
            return self.built_in[reference].signature
        found = _signature_of(reference)
        said = {name: values.partition("|")[0] for name, values in self._choices.items()}
        return replace(found, arguments={**found.arguments, **said}, ranges={**found.ranges, **self._choices})

    def given(self, reference: str, arguments: Arguments) -> dict[str, Scalar]:
        """The arguments that a part is called with: without those that are only said of it."""
        said = () if reference in self.built_in else self._choices
        return {name: value for name, value in arguments if name not in said}

    def arguments(self, reference: str, given: Arguments) -> Arguments:
        """Check arguments and bring them into their one form: sorted, defaults left out, numbers as declared.

        Args:
            reference: of the part.
            given: names and values.

        Raises:
            UnknownNameError: the part takes no such argument.
            SpecError: a value is of another type than the default or out of range, or dlbench itself gives the
                argument.
        """
        if not given:
            return ()
        known = self.signature(reference)
        kept = {}
        for name, value in given:
            name = self.full_name(reference, name)
            if name.rpartition(".")[2] in self.supplied:
                raise SpecError(
                    f"the argument {name} of the {self.kind} {label(reference)} is given by dlbench",
                    field=f"{self.field}.{name}",
                    value=value,
                    remedy="leave it out",
                )
            if name not in known.arguments and not known.is_open:
                takes = [name for name in known.arguments if name.rpartition(".")[2] not in self.supplied]
                raise UnknownNameError(
                    *(f"argument of the {self.kind} {label(reference)}", name, takes or ["none"]),
                    field=f"{self.field}.{name}",
                )
            default = known.arguments.get(name, Default.UNREADABLE)
            value = value if isinstance(default, Default) else self._as(default, reference, name, value)
            possible = known.ranges.get(name)
            if possible and not ranges.contains(possible, value):
                raise SpecError(
                    f"the argument {name} of the {self.kind} {label(reference)} must be "
                    f"{ranges.in_words(possible)}; got {shown(value)}",
                    field=f"{self.field}.{name}",
                    value=value,
                )
            if not (type(value) is type(default) and value == default):
                kept[name] = value
        return tuple(sorted(kept.items()))

    def full_name(self, reference: str, name: str) -> str:
        """The name of an argument of a sum, which carries that of its part even where there is one part alone."""
        pieces = self.pieces(reference)
        return (
            f"{label(pieces[0])}.{name}" if self.composes and len(pieces) == 1 and "." not in name else name
        )

    def dynamic(self, reference: str, given: Arguments) -> dict[str, float]:
        """The arguments that are arrays in the compiled program, with their values.

        One that is 0 by default and in this trial is off, which is another program.
        """
        known, values = self.signature(reference), dict(given)
        found = {name: values.get(name, known.arguments.get(name)) for name in known.dynamic}
        return {
            name: float(value)
            for name, value in found.items()
            if isinstance(value, int | float) and not value == known.arguments[name] == 0
        }

    def text(self, reference: str, given: Arguments) -> str:
        """A part with its arguments as people write it, ``flip+crop(padding=4)``; a user's by its attribute."""
        if not self.composes:
            return str(parts.Part(label(reference), given))
        split = [(label(piece), f"{label(piece)}.") for piece in self.pieces(reference)]
        return "+".join(
            str(
                parts.Part(
                    name, tuple((key.removeprefix(start), v) for key, v in given if key.startswith(start))
                )
            )
            for name, start in split
        )

    def load(self, reference: str) -> Callable[..., Any]:
        """Import what a reference of one part points to (this runs the module's code).

        Raises:
            InputError: no such module or attribute.
        """
        return _load(self.kind, reference, self._homes.get(reference, reference))

    def home(self, attribute: str) -> str | None:
        """The module that defines a built-in part, by the name of its class or function; ``None`` where none does."""
        return next((module for found, module in self._found if found.attribute == attribute), None)

    def source(self, reference: str) -> Source:
        """What identifies a user's part: the file that defines it, and what of the user's own that file imports.

        Nothing is imported to find it. A part that has no file is known from its code in memory. Its digest goes into
        the trial's id, so that an edited part is trained again.

        Raises:
            InputError: no such module, or code in memory that cannot be told from other code.
        """
        if not self.users(reference):
            return Source("")
        if len(pieces := self.pieces(reference)) > 1:
            found = [self.source(piece) for piece in pieces]
            return Source(
                digest([each.digest for each in found]),
                tuple(path for each in found for path in each.files),
                tuple(name for each in found for name in each.names),
            )
        module_name = reference.partition(":")[0]
        if module_name == live_code.HELD:
            return Source(live_code.digest_of(self.load(reference), label(reference)))
        if module_name == sources.MAIN and not live_code.is_in(self.load(reference), sources.main_file()):
            return Source(live_code.digest_of(self.load(reference), label(reference)))
        if module_name != sources.MAIN:
            _source_file(reference, self.kind)
        return sources.read(module_name)

    def about(self, reference: str) -> str:
        """What identifies a user's part and how a model is told that it trains, in a sentence; "" for built-in ones."""
        if not self.users(reference):
            return ""
        source = self.source(reference)
        listed = ", ".join(path.name for path in source.files[:8])
        more = f" and {len(source.files) - 8} more files" if len(source.files) > 8 else ""
        known_by = f"the source of {listed}{more}" if source.files else "its content in memory"
        parameters = self._call_parameters(reference) if self is MODELS else None
        called = f"; it is {switches.in_words(parameters)}" if parameters is not None else ""
        return f"{reference} is identified by {known_by} ({source.digest[:12]}){called}"

    def _call_parameters(self, reference: str) -> tuple[str, ...] | None:
        """The arguments of a model's ``__call__``; ``None`` where its source does not show them."""
        if live_code.is_in_memory(reference):
            part = self.load(reference)
            return tuple(inspect.signature(part.__call__).parameters)[1:] if inspect.isclass(part) else None
        source = _source_file(reference).read_text("utf-8", errors="replace")
        return call_parameters(source, reference.partition(":")[2])

    def source_digest(self, reference: str) -> str:
        """The digest of :meth:`source`: SHA-256, "" for built-in parts; raises what that raises."""
        return self.source(reference).digest

    @functools.cached_property
    def _found(self) -> tuple[tuple[Declaration, str], ...]:
        """The built-in parts and the modules that define them; first those that are compared."""
        place = _PACKAGE / self._place
        files = sorted(place.glob("*.py")) if place.is_dir() else [place]
        found = [
            (
                replace(declared, name=self.prefix + declared.name),
                self._module(str(file.relative_to(_PACKAGE))),
            )
            for file in files
            for declared in declarations(file.read_text("utf-8"), self._variable)
        ]
        return tuple(sorted(found, key=lambda part: part[0].compared or math.inf))

    @functools.cached_property
    def _homes(self) -> Mapping[str, str]:
        return {found.name: f"{module}:{found.attribute}" for found, module in self._found}

    def _key(self, name: str) -> str:
        return name_key(name.removeprefix(self.prefix))

    @functools.cached_property
    def _by_key(self) -> Mapping[str, str]:
        """Canonical names by the keys of all names of built-in parts."""
        return {
            self._key(name): found.name
            for found in self.built_in.values()
            for name in (found.name, *found.aliases)
        }

    def _canonical(self, reference: str) -> str:
        """The canonical name, where a reference points to a built-in part."""
        module, _, attribute = reference.partition(":")
        for found, home in self._found:
            if attribute == found.attribute and module in (home, self._module(self._place)):
                return found.name
        return reference

    def _offered(self) -> dict[str, str]:
        from importlib.metadata import entry_points

        return {point.name: point.value for point in entry_points(group=self._group)}

    def _as(self, default: Scalar, reference: str, name: str, value: Scalar) -> Scalar:
        """A value as its argument's default has it: text that reads as one is a number, and 1 is 1.0."""
        read = parts.literal(value) if isinstance(value, str) and not isinstance(default, str) else value
        if isinstance(default, float) and type(read) is int:
            return float(read)
        if type(read) is not type(default):
            expected = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
            raise SpecError(
                f"the argument {name} of the {self.kind} {label(reference)} must be {expected[type(default)]}; "
                f"got {shown(value)}",
                field=f"{self.field}.{name}",
                value=value,
            )
        return read

    @staticmethod
    def _module(place: str) -> str:
        return ".".join(("dlbench", *Path(place).with_suffix("").parts))


class DatasetRegistry(Registry):
    """The data sets, which can also be named by their files, ``folder:PATH``, or by their arrays, ``name@digest``.

    Each can be cleaned, by the arguments of :attr:`CLEANING`, unless it has arguments of these names of its own.
    """

    #: The arguments by which any data set is cleaned, with their defaults.
    CLEANING: Mapping[str, Scalar] = types.MappingProxyType({"corrections": "", "drop_duplicates": False})

    def parse(self, text: str) -> tuple[str, Arguments] | None:
        """See :meth:`Registry.parse`; ``folder:PATH`` is short for ``folder(path="PATH")``."""
        name, colon, path = text.partition(":")
        reference = self._by_key.get(name_key(name)) if colon else None
        if reference and "path" in self.built_in[reference].signature.arguments:
            if not path:
                raise ValueError(f"followed by a path, such as {name}:PATH")
            return reference, (("path", path),)
        return super().parse(text)

    def find(self, name: str) -> str | None:
        """See :meth:`Registry.find`; a reference to arrays stands for itself."""
        return name if "@" in name else super().find(name)

    def _meant(self, name: str) -> str | None:
        place = os.path.expanduser(name)
        if os.path.isdir(place):
            return f"pictures in a folder are named as in folder:{name}, IDX files as in idx:{name}"
        return (
            f"arrays in a file are named as in npz:{name}" if os.path.isfile(place) else super()._meant(name)
        )

    def _is_own(self, reference: str) -> bool:
        return "@" in reference or super()._is_own(reference)

    def _signature_of_one(self, reference: str) -> Signature:
        own = self.own_signature(reference)
        return replace(own, arguments={**self.CLEANING, **own.arguments})

    def own_signature(self, reference: str) -> Signature:
        """What the data set itself is made with, without the arguments that clean it."""
        return Signature(is_open=False) if "@" in reference else super()._signature_of_one(reference)


MODELS = Registry("model", "MODELS", "models", ("num_classes", "rngs"))
OPTIMIZERS = Registry("optimizer", "OPTIMIZERS", "training/optimizers.py", ("learning_rate", "weight_decay"))
SCHEDULES = Registry(
    "schedule", "SCHEDULES", "training/schedules.py", ("step", "steps_per_epoch", "num_epochs")
)
CRITERIA = Registry("criterion", "CRITERIA", "training/losses.py", ("logits", "labels", "class_weights"))
METRICS = Registry(
    "metric",
    "METRICS",
    "training/metrics.py",
    ("logits", "labels", "losses"),
    prefix="val/",
    choices={"better": "higher|lower"},
    field="selection_metric",
)
TRANSFORMS = Registry("transform", "TRANSFORMS", "training/augmentation", ("images", "key"), composes=True)

DATASETS = DatasetRegistry("dataset", "DATASETS", "data", ("data_dir",))

register_model = MODELS.register
resolve_model = MODELS.resolve
check_trusted = MODELS.check_trusted


def reference_to(kind: str, part: object) -> str:
    """The reference of a part that is given itself.

    Args:
        kind: what it is given as.
        part: a class or function; or an object that no other process could import (an instance, a partial, a function
            made inside another), which is held for this process.

    Raises:
        SpecError: it is no such thing.
        InputError: it is such an object, and uses a value of which it cannot be told when it changes.
    """
    if isinstance(part, types.ModuleType):
        raise SpecError(
            *(Field(kind), f" is the module {part.__name__}"),
            value=part,
            remedy="give one of the classes or functions in it",
        )
    if not callable(part):
        raise SpecError.must_be(kind, "a name, a class, a function or a Flax module", part)
    name, module = getattr(part, "__qualname__", None), getattr(part, "__module__", None)
    if isinstance(name, str) and isinstance(module, str) and _REFERENCE.fullmatch(f"{module}:{name}"):
        return f"{module}:{name}"
    maker = part.func if isinstance(part, functools.partial) else part
    name = getattr(maker, "__qualname__", None) or type(part).__name__
    return live_code.hold(part, str(name).rpartition(".")[2])


def import_path(references: Iterable[str]) -> tuple[str, ...]:
    """The folders in which another process has to look for these parts besides its own; none for built-in ones."""
    users = any(":" in reference for reference in references)
    return tuple(os.path.abspath(path) for path in sys.path) if users else ()


def label(reference: str) -> str:
    """What tables call a part: a built-in's name, or the attribute of a user's; the same for each part of a sum."""
    if ":" not in reference:
        return reference
    return "+".join(piece.partition(":")[2] or piece for piece in reference.split("+"))


def _joined(signatures: Mapping[str, Signature]) -> Signature:
    """The signature of a sum: every argument under the name of its part."""

    def under(part: str, name: str) -> str:
        return f"{part}.{name}"

    return Signature(
        {under(p, name): value for p, found in signatures.items() for name, value in found.arguments.items()},
        any(found.is_open for found in signatures.values()),
        tuple(under(p, name) for p, found in signatures.items() for name in found.dynamic),
        {under(p, name): value for p, found in signatures.items() for name, value in found.ranges.items()},
        {field: value for found in signatures.values() for field, value in found.requires.items()},
    )


def _load(kind: str, reference: str, home: str) -> Callable[..., Any]:
    module_name, _, attribute = home.partition(":")
    if module_name == live_code.HELD:
        held: Any = live_code.held(attribute)
        if held is None:
            raise InputError(
                f"{kind} {reference!r} is an object that was given itself, and this process has none like it",
                remedy="give it again, from Python",
            )
        return held  # type: ignore[no-any-return]
    if not module_name.startswith("dlbench."):
        own_code.admit(module_name)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise
        raise _no_module(kind, reference, module_name) from None
    except Exception as error:
        raise InputError(
            f"{kind} {reference!r}: importing {module_name!r} raised {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"{kind} {reference!r}: module {module_name!r} has no attribute {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{kind} {reference!r} is no class or function but {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _no_module(kind: str, reference: str, module_name: str) -> InputError:
    file, _, attribute = reference.partition(":")
    return InputError(
        f"{kind} {reference!r}: there is no module {module_name!r} on the path of {sys.executable}",
        remedy=f"a module is named without '.py': '{file.removesuffix('.py')}:{attribute}'"
        if file.endswith(".py")
        else "install it, or start in the folder that holds it",
    )


def _signature_of(reference: str) -> Signature:
    """The signature of a user's part, from its source."""
    if live_code.is_in_memory(reference):
        return Signature()
    try:
        source = _source_file(reference).read_text("utf-8")
    except (InputError, OSError, ValueError):
        return Signature()
    return signature(source, reference.partition(":")[2])


def _source_file(reference: str, kind: str = "model") -> Path:
    """The file that defines a user's part, found without importing it.

    Raises:
        InputError: no such module, or it has no source.
    """
    module_name = reference.partition(":")[0]
    place = sources.locate(module_name)
    if place is None:
        raise _no_module(kind, reference, module_name)
    if place.file is None:
        raise InputError(f"{kind} {reference!r}: {module_name!r} has no source file")
    return place.file
