"""What Python files declare of the parts they define, read without running them. No jax.

A file says it once, where it defines the part::

    @MODELS.register("Stabilized", compared=3)
    def stabilized(num_classes: int = 10, dropout_rate: float = 0.3) -> nn.Module:
        \"\"\"Batch norm and dropout.\"\"\"

The name, its aliases, the description (the first line of the docstring), the arguments and their defaults are literals
in the syntax tree, so that a process can know them without importing the file and what that would import.
"""

from __future__ import annotations

import ast
import contextlib
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dlbench.spec.parts import Scalar


class Default(enum.Enum):
    """What stands in for a default that is no scalar literal."""

    REQUIRED = "required"
    UNREADABLE = "unreadable"


Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Signature:
    """The arguments of a function, or the fields of a class.

    Attributes:
        arguments: the default of each, by name, in order.
        is_open: whether it may take others too (``**arguments``, a base class defined elsewhere, a decorator).
        dynamic: the arguments that may be arrays in a compiled program, so that their values share it.
        ranges: the possible values of arguments (see :mod:`dlbench.spec.ranges`).
        requires: the values that other fields of a trial must have beside it.
    """

    arguments: Mapping[str, Scalar | Default] = field(default_factory=dict)
    is_open: bool = True
    dynamic: tuple[str, ...] = ()
    ranges: Mapping[str, str] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Declaration:
    """A part as the file that defines it declares it.

    Attributes:
        name: its canonical name.
        attribute: the name of the class or function in its file.
        description: one line.
        signature: what it can be made with.
        aliases: other names.
        compared: its place in a comparison that names no part; ``None`` where it has none.
        targets: what it is for: targets that are "classes" or "numbers"; "" for both.
        better: of a metric: whether "higher" or "lower" values are better.
        unit: of a metric: the unit in which differences are shown.
    """

    name: str
    attribute: str
    description: str
    signature: Signature
    aliases: tuple[str, ...] = ()
    compared: int | None = None
    targets: str = ""
    better: str = "higher"
    unit: str = ""


def declarations(source: str, registry: str) -> Iterator[Declaration]:
    """What a file registers.

    Args:
        source: the file's text.
        registry: the name under which the file knows the registry, such as ``MODELS``.
    """
    if f"@{registry}.register(" not in source:
        return
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, Definition):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _registers(decorator, registry):
                    yield _declaration(node, decorator, tree)


def signature(source: str, attribute: str) -> Signature:
    """The signature of a class or function that a file defines at its top; open and empty where it cannot be read."""
    try:
        return _signature(ast.parse(source), attribute)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Signature()


def call_parameters(source: str, attribute: str) -> tuple[str, ...] | None:
    """The arguments by name of the ``__call__`` of a class that a file defines; ``None`` where it cannot be read."""
    try:
        defined = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    seen = set()
    while attribute in defined and attribute not in seen:
        seen.add(attribute)
        for statement in defined[attribute].body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__call__":
                return tuple(each.arg for each in (*statement.args.args[1:], *statement.args.kwonlyargs))
        attribute = next((ast.unparse(base) for base in defined[attribute].bases), "")
    return None


def names_defined(source: str) -> set[str] | None:
    """The names that a module has once it is imported; ``None`` where its source does not tell."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=[ast.alias(name="*"), *_]):
                return None
            case ast.Import() | ast.ImportFrom():
                found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.Call(func=ast.Name(id="globals" | "setattr" | "vars" | "exec")):
                return None
    return None if "__getattr__" in found else found


def _registers(decorator: ast.expr, registry: str = "") -> bool:
    """Whether a decorator registers a part and does nothing else."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if registry:
        return ast.unparse(called) == f"{registry}.register"
    return ast.unparse(called).rpartition(".")[2] in ("register", "register_model")


def _declaration(node: Definition, decorator: ast.Call, tree: ast.Module) -> Declaration:
    given = _keywords(decorator, tree)
    (name,) = map(ast.literal_eval, decorator.args)
    description = (ast.get_docstring(node) or "").partition("\n")[0]
    kept = {key: given[key] for key in ("aliases", "compared", "targets", "better", "unit") if key in given}
    return Declaration(name, node.name, description, _signature(tree, node.name), **kept)


def _keywords(decorator: ast.Call, tree: ast.Module) -> dict[str, Any]:
    """The keyword arguments that are literals, or names of literals that the module assigns."""
    assigned = {
        ast.unparse(target): node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
    }
    found: dict[str, Any] = {}
    for keyword in decorator.keywords:
        with contextlib.suppress(ValueError):  # not a literal
            found[str(keyword.arg)] = ast.literal_eval(
                assigned.get(ast.unparse(keyword.value), keyword.value)
            )
    return found


def _signature(tree: ast.Module, attribute: str) -> Signature:
    defined = {node.name: node for node in tree.body if isinstance(node, Definition)}
    node = defined.get(attribute)
    if node is None or not all(map(_registers, node.decorator_list)):
        return Signature()
    given: dict[str, Any] = {}
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call):
            given |= _keywords(decorator, tree)
    return replace(
        _of_definition(node, attribute, tree, defined),
        dynamic=tuple(given.get("dynamic", ())),
        ranges=given.get("ranges", {}),
        requires=given.get("requires", {}),
    )


def _of_definition(
    node: Definition, attribute: str, tree: ast.Module, defined: Mapping[str, Definition]
) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return _of_function(node.args)
    arguments: dict[str, Scalar | Default] = {}
    is_open = False
    for base in node.bases:
        name = ast.unparse(base)
        if name in defined and name != attribute:
            inherited = _signature(tree, name)
            arguments |= inherited.arguments
            is_open |= inherited.is_open
        elif name.rpartition(".")[2] != "Module":
            is_open = True
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _of_function(statement.args, skipped=1)
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and "ClassVar" not in ast.unparse(statement.annotation)
        ):
            arguments[statement.target.id] = _default(statement.value)
    return Signature(arguments, is_open or not node.bases)


def _of_function(args: ast.arguments, skipped: int = 0) -> Signature:
    listed = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(listed) - len(args.defaults)) + args.defaults
    pairs = [*zip(listed, defaults, strict=True)][skipped:]
    pairs += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    arguments = {argument.arg: _default(default) for argument, default in pairs}
    return Signature(arguments, args.kwarg is not None)


def _default(node: ast.expr | None) -> Scalar | Default:
    if node is None:
        return Default.REQUIRED
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return Default.UNREADABLE
    return value if isinstance(value, bool | int | float | str) else Default.UNREADABLE
