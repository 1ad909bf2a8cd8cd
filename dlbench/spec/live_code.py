"""Digests of parts that have no file, because they are defined in a notebook or interpreter. No jax.

Such a part is identified by its code in memory: the bytecode, constants and defaults of its functions, the attributes
and bases of its classes, and the values of the global variables and enclosing scopes that they use. Installed code is
identified by its name. Bytecode differs between versions of Python. File names and line numbers are left out, so that
the order of cells does not matter.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import inspect
import os
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

from dlbench.errors import InputError, shown
from dlbench.records import digest
from dlbench.spec import sources

#: Attributes of a class that are derived from others, or depend only on where it was defined.
_FOLLOWS = frozenset(
    [
        "__module__",
        "__dict__",
        "__weakref__",
        "__doc__",
        "__qualname__",
        "__firstlineno__",
        "__static_attributes__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__match_args__",
        "__parameters__",
        "__abstractmethods__",
        "_abc_impl",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
    ]
)


#: The module part of references to objects that were given themselves.
HELD = "__held__"
_held: dict[str, object] = {}


def hold(part: object, name: str) -> str:
    """Keep an object for this process, and return the reference that it has from now on.

    The reference holds a digest of the object, so that equal objects have equal references in every process.

    Args:
        part: the object, such as an instance of a Flax module.
        name: what messages call it.

    Raises:
        InputError: it uses a value that has no digest.
    """
    words = "".join(character if character.isalnum() else "_" for character in name)
    attribute = f"{words}_{digest_of(part, name)[:12]}"
    _held[attribute] = part
    return f"{HELD}:{attribute}"


def held(attribute: str) -> object | None:
    """The object that :func:`hold` has kept; ``None`` if this process holds no such object."""
    return _held.get(attribute)


def is_in_memory(reference: str) -> bool:
    """Whether a reference means an object of this process alone: one of the main script or notebook, or one held."""
    return reference.startswith((f"{sources.MAIN}:", f"{HELD}:"))


def digest_of(part: object, name: str) -> str:
    """SHA-256 of the code of a class or function.

    Args:
        part: the class or function.
        name: its name in messages.

    Raises:
        InputError: it uses a value for which no digest can be computed.
    """
    return digest([f"Python {sys.version_info[0]}.{sys.version_info[1]}", _Description(name).of(part)])


def is_in(part: object, file: Path | None) -> bool:
    """Whether a class or function is defined in the main script, and was not typed in later."""
    if file is None:
        return False
    functions = vars(part).values() if isinstance(part, type) else (part,)
    own = [f for f in functions if isinstance(f, types.FunctionType) and not _is_generated(f)]
    names = {os.path.basename(inspect.unwrap(function).__code__.co_filename) for function in own}
    return not names or file.name in names


class _Description:
    """Converts values to JSON values that differ whenever the values differ."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []  # keeps objects alive, so that their ids are not reused

    def of(self, value: Any) -> Any:
        """The JSON value that stands for a value.

        Raises:
            InputError: changes of a value of this type cannot be detected.
        """
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float | complex | bytes) or value is Ellipsis:
            return [type(value).__name__, repr(value)]
        if id(value) in self._seen:
            return ["again", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        found = self._builtin(value) or self._defined(value)
        if found is None:
            raise InputError(
                f"the model {self._name!r} is defined in the main script or notebook and uses {shown(value)}; "
                f"changes of a {type(value).__module__}.{type(value).__qualname__} cannot be detected",
                field="model",
                value=self._name,
                remedy="move the model to a module",
            )
        return found

    def _builtin(self, value: Any) -> list[Any] | None:
        """A value of a built-in type, or an array."""
        match value:
            case tuple() | list():
                return [type(value).__name__, *map(self.of, value)]
            case set() | frozenset():
                return ["set", *sorted(map(repr, map(self.of, value)))]
            case Mapping():
                return ["mapping", *([self.of(key), self.of(each)] for key, each in value.items())]
            case slice():
                return ["slice", *map(self.of, (value.start, value.stop, value.step))]
            case functools.partial():
                return ["partial", *map(self.of, (value.func, value.args, value.keywords))]
            case staticmethod() | classmethod():
                return [type(value).__name__, self.of(value.__func__)]
            case types.MethodType():
                return ["method", self.of(value.__func__), self.of(value.__self__)]
            case property():
                return ["property", *map(self.of, (value.fget, value.fset, value.fdel))]
            case functools.cached_property():
                return ["cached property", self.of(value.func)]
            case types.CodeType():
                return self._code(value)
            case types.ModuleType():
                return ["module", value.__name__, self._source(value.__name__)]
            case enum.Enum():
                return ["member", self.of(type(value)), value.name]
            case types.CellType():
                return ["cell", *([self.of(value.cell_contents)] if _is_filled(value) else [])]
        if get_origin(value) is not None or type(value).__module__ == "typing":
            return ["type", repr(value)]
        if hasattr(value, "__array__") and hasattr(value, "dtype") and not isinstance(value, type):
            import numpy as np

            array = np.asarray(value)
            return [
                "array",
                str(array.dtype),
                *map(int, array.shape),
                np.ascontiguousarray(array).tobytes().hex(),
            ]
        return None

    def _defined(self, value: Any) -> list[Any] | None:
        """A function, a class, or an instance of one."""
        if isinstance(value, types.FunctionType):
            return self._function(value)
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if isinstance(module, str) and isinstance(name, str) and not _is_typed(module):
            return ["named", module, name, self._source(module)]
        if isinstance(value, type):
            return self._class(value)
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None:
            return ["wraps", type(value).__qualname__, self.of(wrapped)]
        if dataclasses.is_dataclass(value):
            fields = {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}
            fields.pop("parent", None)  # where a Flax module hangs, which says nothing of what it is
            return ["instance", self.of(type(value)), self.of(fields)]
        if hasattr(value, "__dict__") and "__reduce__" not in _defined_by(type(value)):
            return ["instance", self.of(type(value)), self.of(vars(value))]
        if type(value).__module__ in ("builtins", "types") and isinstance(name, str):
            return ["builtin", name]
        return None

    def _function(self, function: types.FunctionType) -> list[Any]:
        home = str(function.__globals__.get("__name__"))
        cells = [self.of(cell) for cell in function.__closure__ or ()]
        settings = [function.__defaults__, function.__kwdefaults__, vars(function)]
        described = ["function", *cells, *map(self.of, settings)]
        if not _is_typed(home):
            return [*described, home, function.__code__.co_qualname, self._source(home)]
        used = {name: self.of(function.__globals__[name]) for name in _globals(function)}
        return [*described, self._code(function.__code__), used]

    def _class(self, defined: type) -> list[Any]:
        attributes = {
            name: self.of(value)
            for name, value in sorted(vars(defined).items())
            if name not in _FOLLOWS and not _is_generated(value)
        }
        return ["class", defined.__name__, [self.of(base) for base in defined.__bases__], attributes]

    def _code(self, code: types.CodeType) -> list[Any]:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        return [
            *("code", code.co_name, code.co_code.hex(), code.co_exceptiontable.hex()),
            *(list(each) for each in (counts, *names)),
            [self.of(constant) for constant in code.co_consts],
        ]

    def _source(self, module: str) -> str:
        """The digest of the source of a module of the user's own; "" for an installed module."""
        path = getattr(sys.modules.get(module), "__file__", None)
        return sources.read(module).digest if path and sources.is_own(Path(path)) else ""


def _is_typed(module: str) -> bool:
    """Whether code of a module is typed in: that of the main module, or of one that was never imported."""
    return module == sources.MAIN or module not in sys.modules


def _is_generated(value: object) -> bool:
    """Whether a function was generated by ``dataclasses``."""
    code = getattr(inspect.unwrap(value), "__code__", None) if isinstance(value, types.FunctionType) else None
    return code is not None and code.co_qualname.startswith("__create_fn__")


def _defined_by(kind: type) -> set[str]:
    """The attributes that a class and its bases define, except those of ``object``."""
    return {name for base in kind.__mro__ if base is not object for name in vars(base)}


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _globals(function: types.FunctionType) -> list[str]:
    """The names of the global variables that a function and its inner functions use, sorted."""
    return sorted({name for name in _loaded(function.__code__) if name in function.__globals__})


def _loaded(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _loaded(constant)
