"""Studies in YAML files.

A file has the fields of a trial as keys::

    description: Does batch normalisation help a small CNN?   # optional
    design: grid            # the default; or comparison, or single
    model: [Baseline, Stabilized]
    lr: [1e-3, 1e-2]        # any field of TrialSpec, one value or a list; lr = learning_rate
    epochs: 3               # = num_epochs
    seeds: 5                # = seed: [0, 1, 2, 3, 4]
    grids:                  # optional: the study is all of these grids, each with the values above
      - {optimizer: adam}
      - {optimizer: sgd, lr: [1e-2, 1e-1]}
    claims:                 # optional: what you expect, stated before training
      - says: Batch normalisation gains half a point
        better: {model: Stabilized}     # or varies: {...}, which compares the variation between seeds
        than: {model: Baseline}
        figure: test_accuracy           # optional, this is the default; each side can have its own
        points: 0.5                     # optional

Every value is checked as it is read, and errors name the file and the line. ``kind`` is another name of ``design``,
with the values grid, compare-archs and train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dlbench.errors import ConfigError, InputError, shown, unknown
from dlbench.spec import designs
from dlbench.spec.claims import MEASURES, Claim, Selection
from dlbench.spec.naming import ALIASES
from dlbench.spec.study import DESIGNS, KINDS, Design
from dlbench.spec.trial import TrialSpec, make_trial_spec

#: Longer files are refused: a path can also name a device that never ends.
MAX_CHARACTERS = 1_000_000

_FIELDS = (*TrialSpec.model_fields, *ALIASES)
_KEYS = ("description", "design", "kind", "grids", "claims", *_FIELDS)
_CLAIM_KEYS = ("says", "better", "varies", "than", "figure", "points")
_SIDE_KEYS = ("figure", *(name for name in _FIELDS if name != "seeds"))


@dataclass(frozen=True)
class Config:
    """A study as described by a file.

    Attributes:
        path: the path of the file.
        design: the design of the study.
        description: the purpose of the study, in words.
        grids: the grids of the study, each a mapping from field to values.
        places: file and line where each field is first given.
        claims: the claims about the study's trials.
        text: the content of the file.
    """

    path: Path
    design: Design
    description: str
    grids: tuple[Mapping[str, list[Any]], ...]
    places: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    text: str = ""


@dataclass
class _Section:
    """A mapping of the file: the values of trial fields, and the YAML nodes of all other keys."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    others: dict[str, yaml.Node] = field(default_factory=dict)


def read(path: Path) -> Config:
    """Read and check a file.

    Raises:
        ConfigError: the file cannot be read, or a value breaks a rule; names the file and the line.
    """
    text = _text(path)
    reader = _Reader(path, text)
    top = reader.section(reader.root(), _KEYS)
    design = reader.design(top.others)
    grids = [{**top.values, **part} for part in reader.grids(top.others.get("grids"))]
    description = reader.scalar(top.others.get("description"), "")
    claims = reader.claims(top.others.get("claims"))
    parts = tuple(grids) or (top.values,)
    return Config(path, design, str(description), parts, reader.places, claims, text)


def read_claims(text: str, path: Path) -> tuple[str, tuple[Claim, ...]]:
    """Read only the description and the claims of a file.

    The fields of trials are not checked, so no model is looked up and no user code is imported.

    Args:
        text: the content of the file.
        path: the path of the file, for errors.

    Raises:
        ConfigError: a claim breaks a rule; names the file and the line.
    """
    reader = _Reader(path, text)
    top = reader.section(reader.root(), _KEYS, values=False)
    return str(reader.scalar(top.others.get("description"), "")), reader.claims(top.others.get("claims"))


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"the configuration file {path} cannot be read: {reason}") from None
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"the configuration file {path} is longer than {MAX_CHARACTERS:,} characters")
    return text


class _Reader:
    """Reads a YAML document node by node, because nodes know their line numbers."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.places: dict[str, str] = {}
        try:
            self._loader = yaml.SafeLoader(text)
            self._root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"invalid YAML: {error.problem}", place=f"{path}:{line}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ConfigError(
                f"invalid YAML: the character {error.character:#x} is not allowed", place=f"{path}:{line}"
            ) from None
        except yaml.YAMLError as error:
            raise ConfigError(f"invalid YAML: {error}", place=str(path)) from None
        except RecursionError:
            raise ConfigError("lists or mappings are nested too deeply", place=str(path)) from None

    def root(self) -> yaml.Node:
        if self._root is None:
            raise ConfigError(f"{self.path} is empty; a study looks like 'model: [Baseline, Stabilized]'")
        return self._root

    def place(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def error(self, node: yaml.Node, problem: str | InputError) -> ConfigError:
        if isinstance(problem, str):
            return ConfigError(problem, place=self.place(node))
        return ConfigError.at(self.place(node), problem)

    def scalar(self, node: yaml.Node | None, default: Any) -> Any:
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, "expected a single value; got a list or mapping")
        return self._value(node)

    def design(self, given: Mapping[str, yaml.Node]) -> Design:
        """The design, given as ``design`` or ``kind``."""
        if {"design", "kind"} <= given.keys():
            raise self.error(given["kind"], "kind is another name of design; keep one of them")
        for key, known in (("design", [*KINDS]), ("kind", [*KINDS.values()])):
            if key in given:
                name = self.scalar(given[key], "")
                if not isinstance(name, str) or name not in DESIGNS:
                    raise self.error(given[key], unknown(key, name, known))
                return DESIGNS[name]
        return "grid"

    def grids(self, node: yaml.Node | None) -> list[dict[str, list[Any]]]:
        if node is None:
            return []
        self._refuse_tag(node)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(node, "grids must be a list of mappings, such as '- {optimizer: sgd, lr: 0.1}'")
        return [self.section(part, _FIELDS).values for part in node.value]

    def claims(self, node: yaml.Node | None) -> tuple[Claim, ...]:
        if node is None:
            return ()
        self._refuse_tag(node)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(
                node, "claims must be a list of mappings, each with says, better (or varies) and than"
            )
        return tuple(map(self._claim, node.value))

    def _claim(self, node: yaml.Node) -> Claim:
        given = self.section(node, _CLAIM_KEYS).others
        if len({"better", "varies"} & given.keys()) != 1 or not {"says", "than"} <= given.keys():
            raise self.error(node, "a claim has says, than, and either better or varies")
        says, spread = self.scalar(given["says"], ""), "varies" in given
        if not isinstance(says, str) or not says.strip():
            raise self.error(given["says"], f"says must be a sentence; got {shown(says)}")
        metric = self._metric(given.get("figure"), "test_accuracy")
        first = self._side(given["varies" if spread else "better"], metric)
        second = self._side(given["than"], metric)
        if MEASURES[first.figure] != MEASURES[second.figure]:
            raise self.error(given["than"], f"{first.figure} and {second.figure} cannot be compared")
        points = self.scalar(given.get("points"), None)
        if points is not None and (spread or isinstance(points, bool) or not isinstance(points, int | float)):
            problem = (
                "points applies only to better; leave points out" if spread else "points must be a number"
            )
            raise self.error(given["points"], f"{problem}; got {shown(points)}")
        return Claim(" ".join(says.split()), first, second, spread, points)

    def _side(self, node: yaml.Node, metric: str) -> Selection:
        side = self.section(node, _SIDE_KEYS, trained=False)
        fields = tuple((name, tuple(values)) for name, values in side.values.items())
        if not fields:
            raise self.error(node, "this selects every trial; name a field, such as {model: Baseline}")
        return Selection(fields, self._metric(side.others.get("figure"), metric), self.place(node))

    def _metric(self, node: yaml.Node | None, default: str) -> str:
        """The metric that a claim is about; the key in the file is ``figure``."""
        metric = self.scalar(node, default)
        if node is not None and metric not in MEASURES:
            raise self.error(node, unknown("figure", metric, MEASURES))
        return str(metric)

    def section(
        self, node: yaml.Node, keys: tuple[str, ...], *, values: bool = True, trained: bool = True
    ) -> _Section:
        """Read one mapping and check that each key is known and given once, and that each value is possible.

        Args:
            node: the mapping.
            keys: the keys that are allowed.
            values: whether to read the fields of trials.
            trained: whether the fields describe trials to train; if not, models are not looked up.
        """
        self._refuse_tag(node)
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected 'key: value'; got {shown(self._value(node))}")
        section = _Section()
        lines: dict[str, str] = {}
        for key_node, value_node in node.value:
            key = self._value(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if key not in keys:
                raise self.error(key_node, unknown("key", key, keys))
            name = ALIASES.get(key, key)
            if name in lines:
                raise self.error(key_node, f"{key!r} is already given at {lines[name]}; keep one of them")
            lines[name] = self.place(key_node)
            if key in _FIELDS and values:
                section.values[name] = self._values(key, name, value_node, trained)
                if trained:
                    self.places.setdefault(name, self.place(value_node))
            elif key not in _FIELDS:
                section.others[key] = value_node
        return section

    def _values(self, key: str, name: str, node: yaml.Node, trained: bool) -> list[Any]:
        if key == "seeds" and isinstance(node, yaml.ScalarNode):
            try:
                return list(designs.first_seeds(self._value(node)))
            except InputError as error:
                raise self.error(node, error) from None
        self._refuse_tag(node)
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        values = [self._value(item) for item in items]
        if not trained:
            if not items:
                raise self.error(node, f"{key} has no value; give at least one")
            return [self._checked(item, name, value) for item, value in zip(items, values, strict=True)]
        for item, value in zip(items, values, strict=True):
            self._check(item, name, [value])
        self._check(node, name, values)
        return values

    def _refuse_tag(self, node: yaml.Node) -> None:
        """Raise an error if a list or mapping has a YAML tag, which would ask for another type."""
        usual: dict[type[yaml.Node], str] = {
            yaml.SequenceNode: "tag:yaml.org,2002:seq",
            yaml.MappingNode: "tag:yaml.org,2002:map",
        }
        if node.tag != usual.get(type(node), node.tag):
            raise self.error(node, f"the tag {shown(node.tag)} is not supported; leave it out")

    def _checked(self, node: yaml.Node, name: str, value: Any) -> Any:
        """A value as :class:`TrialSpec` converts it; the name of a model is not resolved."""
        try:
            return getattr(make_trial_spec({name: value}), name)
        except InputError as error:
            raise self.error(node, error) from None

    def _check(self, node: yaml.Node, name: str, values: list[Any]) -> None:
        try:
            designs.expand({name: values})
        except InputError as error:
            raise self.error(node, error) from None

    def _value(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise self.error(node, "this value cannot be read") from None
