"""Studies in YAML files.

A file says what the flags say::

    description: Does batch normalisation help a small CNN?   # optional
    kind: grid              # or compare-archs, or train; grid unless given
    model: [Baseline, Stabilized]
    lr: [1e-3, 1e-2]        # any field of TrialSpec, one value or a list; lr = learning_rate
    epochs: 3               # = num_epochs
    seeds: 5                # = seed: [0, 1, 2, 3, 4]
    grids:                  # optional: each is merged over the rest, and the study is all of them
      - {optimizer: adam}
      - {optimizer: sgd, lr: [1e-2, 1e-1]}

Every value is checked where it stands: errors name file and line.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from dlbench import grids
from dlbench.errors import ConfigError, InputError, shown
from dlbench.spec import TrialSpec

Kind = Literal["train", "grid", "compare-archs"]
ALIASES = {"lr": "learning_rate", "epochs": "num_epochs", "seeds": "seed"}

#: More is no study; and what never ends can be named as a file, too.
MAX_CHARACTERS = 1_000_000

_FIELDS = (*TrialSpec.model_fields, *ALIASES)
_KEYS = ("description", "kind", "grids", *_FIELDS)


@dataclass(frozen=True)
class Config:
    """A study as a file says it.

    Attributes:
        path: the file.
        kind: the kind of study.
        description: what it is for, in words.
        grids: values by field of each grid; the study is all of them.
        places: file and line where each field is first given.
    """

    path: Path
    kind: Kind
    description: str
    grids: tuple[Mapping[str, list[Any]], ...]
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Section:
    """A mapping of the file: values by field, and the lines of what it says beside them."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    others: dict[str, yaml.Node] = field(default_factory=dict)


def read(path: Path) -> Config:
    """Read and check a file.

    Raises:
        ConfigError: it cannot be read, or something in it breaks a rule; with file and line.
    """
    reader = _Reader(path)
    root = reader.root()
    top = reader.section(root, _KEYS)
    kind = reader.scalar(top.others.get("kind"), "grid")
    if kind not in get_args(Kind):
        raise reader.error(
            top.others["kind"], f"kind must be one of {', '.join(get_args(Kind))}; got {shown(kind)}"
        )
    grids = [{**top.values, **part} for part in reader.grids(top.others.get("grids"))]
    description = reader.scalar(top.others.get("description"), "")
    return Config(path, cast(Kind, kind), str(description), tuple(grids) or (top.values,), reader.places)


class _Reader:
    """Walks the nodes of a YAML document, which know their lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[str, str] = {}
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MAX_CHARACTERS + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            raise ConfigError(f"the configuration file {path} cannot be read: {reason}") from None
        if len(text) > MAX_CHARACTERS:
            raise ConfigError(f"the configuration file {path} is longer than {MAX_CHARACTERS:,} characters")
        try:
            self._loader = yaml.SafeLoader(text)
            self._root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{path}:{line}: this is no YAML: {error.problem}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ConfigError(
                f"{path}:{line}: this is no YAML: the character {error.character:#x} is not allowed"
            ) from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: this is no YAML: {error}") from None
        except RecursionError:
            raise ConfigError(f"{path}: this is no study: it nests lists or mappings too deeply") from None

    def root(self) -> yaml.Node:
        if self._root is None:
            raise ConfigError(f"{self.path} is empty; a study looks like 'model: [Baseline, Stabilized]'")
        return self._root

    def place(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def error(self, node: yaml.Node, text: str) -> ConfigError:
        return ConfigError(f"{self.place(node)}: {text}")

    def scalar(self, node: yaml.Node | None, default: Any) -> Any:
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, "one value is needed here, not a list or mapping")
        return self._value(node)

    def grids(self, node: yaml.Node | None) -> list[dict[str, list[Any]]]:
        if node is None:
            return []
        self._untagged(node)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(node, "grids must be a list of mappings, such as '- {optimizer: sgd, lr: 0.1}'")
        return [self.section(part, _FIELDS).values for part in node.value]

    def section(self, node: yaml.Node, keys: tuple[str, ...]) -> _Section:
        """Read one mapping: each key known and given once, each value possible."""
        self._untagged(node)
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"'key: value' is needed here; got {shown(self._value(node))}")
        section = _Section()
        lines: dict[str, str] = {}
        for key_node, value_node in node.value:
            key = self._value(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if key not in keys:
                near = difflib.get_close_matches(str(key)[:200], keys, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise self.error(key_node, f"unknown key {shown(key)}.{hint} Known: {', '.join(keys)}.")
            name = ALIASES.get(key, key)
            if name in lines:
                raise self.error(key_node, f"{key!r} is given already at {lines[name]}; keep one of them")
            lines[name] = self.place(key_node)
            if key in _FIELDS:
                section.values[name] = self._values(key, name, value_node)
                self.places.setdefault(name, self.place(value_node))
            else:
                section.others[key] = value_node
        return section

    def _values(self, key: str, name: str, node: yaml.Node) -> list[Any]:
        if key == "seeds" and isinstance(node, yaml.ScalarNode):
            count = self._value(node)
            if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= grids.MAX_TRIALS:
                rule = f"a whole number from 1 to {grids.MAX_TRIALS}, or a list"
                raise self.error(node, f"seeds must be {rule}; got {shown(count)}")
            return list(range(count))
        self._untagged(node)
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        values = [self._value(item) for item in items]
        for item, value in zip(items, values, strict=True):
            self._check(item, name, [value])
        self._check(node, name, values)
        return values

    def _untagged(self, node: yaml.Node) -> None:
        """Lists and mappings are read as they stand; a tag would ask for something else."""
        usual: dict[type[yaml.Node], str] = {
            yaml.SequenceNode: "tag:yaml.org,2002:seq",
            yaml.MappingNode: "tag:yaml.org,2002:map",
        }
        if node.tag != usual.get(type(node), node.tag):
            raise self.error(node, f"the tag {shown(node.tag)} has no place here; leave it out")

    def _check(self, node: yaml.Node, name: str, values: list[Any]) -> None:
        try:
            grids.expand({name: values})
        except InputError as error:
            raise self.error(node, str(error)) from None

    def _value(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise self.error(node, "this value cannot be read") from None
