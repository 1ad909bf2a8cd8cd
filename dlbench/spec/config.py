"""Studies in YAML files.

A file has the fields of a trial as keys::

    description: Does batch normalisation help a small CNN?   # optional
    design: grid            # the default; or comparison, ablation or single
    model: [Baseline, Stabilized]
    lr: [1e-3, 1e-2]        # any field of TrialSpec, one value or a list; lr = learning_rate
    epochs: 3               # = num_epochs
    model.dropout_rate: 0.2 # an argument of the model; Stabilized(dropout_rate=0.2) says the same
    seeds: 5                # = seed: [0, 1, 2, 3, 4]
    grids:                  # optional: the study is all of these grids, each with the values above
      - {optimizer: adam}
      - {optimizer: sgd, lr: [1e-2, 1e-1]}
    claims:                 # optional: what you expect, stated before training
      - says: Batch normalisation gains half a point
        better: {model: Stabilized}     # or varies: {...}, which compares the variation between seeds
        than: {model: Baseline}
        metric: test/accuracy           # optional, default: the study's; each side can have its own
        source: a paper                 # optional: who made the claim, if not the study's authors
        points: 0.5                     # optional
        smallest_effect: 0.1            # optional: smaller differences are of no interest
      - {says: It reaches 95 %, better: {model: Stabilized}, than: 95}    # or a number, in the metric's unit
    smallest_effect: 0.2    # optional: the same for all claims on accuracies, in points

    published:              # optional: results of others, shown beside your own
      - {name: LeNet-5, source: "LeCun et al., 1998", test/accuracy: 0.9905}
      - {name: one run, source: a paper, val/accuracy: 0.97, of: {model: Baseline}}   # among those of these trials

Every value is checked as it is read, and errors name the file and the line. ``kind`` is another name of ``design``,
with the values grid, compare-archs and train; ``figure`` is another name of ``metric``.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dlbench import files
from dlbench.errors import ConfigError, InputError, StoreError, UnknownNameError, shown, unknown
from dlbench.records import METRICS
from dlbench.spec import designs, seeds
from dlbench.spec.claims import Claim, Selection
from dlbench.spec.layouts import OPTIONS
from dlbench.spec.metrics import KNOWN_METRICS, is_metric, metric_key
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.naming import ALIASES
from dlbench.spec.parts import is_closed
from dlbench.spec.published import Published, published_value
from dlbench.spec.study import DESIGNS, KINDS, Design
from dlbench.spec.trial import PARTS, TrialSpec, make_trial_spec

#: Longer files are refused: a path can also name a device that never ends.
MAX_CHARACTERS = 1_000_000

#: The key that merges another mapping, and how many of them may lie in one another.
_MERGE = "tag:yaml.org,2002:merge"
_DEEPEST = 50

_FIELDS = (*TrialSpec.model_fields, *ALIASES)
_PATH = re.compile(rf"({'|'.join(PARTS)})(\.[A-Za-z_]\w*)+")
_OPTIONS = tuple(dict.fromkeys(name for names in OPTIONS.values() for name in names))
_STUDY_KEYS = ("description", "design", "kind", "base", "grids", "claims", "smallest_effect", "published")
_KEYS = (*_STUDY_KEYS, *_OPTIONS, *_FIELDS)
_CLAIM_KEYS = ("says", "better", "varies", "than", "metric", "figure", "points", "smallest_effect", "source")
_PUBLISHED_KEYS = ("name", "source")
_SIDE_KEYS = ("metric", "figure", *(name for name in _FIELDS if name != "seeds"))


@dataclass(frozen=True)
class Config:
    """A study as described by a file.

    Attributes:
        path: the path of the file.
        design: the design of the study.
        description: the purpose of the study, in words.
        grids: the grids of the study, each a mapping from field to values.
        options: what the design needs beside fields of trials (:data:`dlbench.spec.layouts.OPTIONS`).
        places: file and line where each field is first given.
        claims: the claims about the study's trials.
        published: results that others have published, to be shown beside the study's own.
        text: the content of the file.
    """

    path: Path
    design: Design
    description: str
    grids: tuple[Mapping[str, list[Any]], ...]
    places: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    text: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[Published, ...] = ()


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
    options = reader.options(top.others, design)
    if "base" in top.others:
        top.values["model"] = reader.base(top, design)
    grids = [{**top.values, **part} for part in reader.grids(top.others.get("grids"))]
    description = reader.scalar(top.others.get("description"), "")
    claims = reader.claims(top.others.get("claims"), top.others.get("smallest_effect"))
    published = reader.published(top.others.get("published"))
    parts = tuple(grids) or (top.values,)
    for part in parts:
        reader.check_arguments(part)
    return Config(path, design, str(description), parts, reader.places, claims, text, options, published)


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
    return str(reader.scalar(top.others.get("description"), "")), reader.claims(
        top.others.get("claims"), top.others.get("smallest_effect")
    )


def read_published(text: str, path: Path) -> tuple[Published, ...]:
    """Read only the published results that a file names.

    Args:
        text: the content of the file; may be empty.
        path: the path of the file, for errors.

    Raises:
        ConfigError: one breaks a rule; names the file and the line.
    """
    if "published" not in text:
        return ()
    reader = _Reader(path, text)
    top = reader.section(reader.root(), _KEYS, values=False)
    return reader.published(top.others.get("published"))


def _text(path: Path) -> str:
    try:
        with files.opened(path) as raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, ValueError, StoreError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, ValueError) else str(error)
        reason = str(error.strerror) if isinstance(error, OSError) else reason
        raise ConfigError(f"the configuration file {path} cannot be read: {reason}") from None
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"the configuration file {path} is longer than {MAX_CHARACTERS:,} characters")
    return text


class _Loader(yaml.SafeLoader):
    """Reads numbers as flags are read, and as YAML 1.2 has them: 010 is ten, 1e-3 a number, 1:30 none."""


_NUMBERS = {
    "int": re.compile(r"[-+]?[0-9][0-9_]*"),
    "float": re.compile(
        r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in _NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern.pattern})$"), list("-+.0123456789")
    )
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value).replace("_", "")))


class _Reader:
    """Reads a YAML document node by node, because nodes know their line numbers."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.places: dict[str, str] = {}
        try:
            self._loader = _Loader(text)
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

    def options(self, given: Mapping[str, yaml.Node], design: Design) -> dict[str, Any]:
        """What the design needs beside fields of trials; checked when the study is laid out."""
        found = {}
        for key in (each for each in _OPTIONS if each in given):
            if key not in OPTIONS.get(design, ()):
                known = [each for each, names in OPTIONS.items() if key in names]
                raise self.error(given[key], f"{key} belongs to the design {known[0]}; this is a {design}")
            self._refuse_tag(given[key])
            found[key] = self._value(given[key])
            self.places[key] = self.place(given[key])
        return found

    def base(self, top: _Section, design: Design) -> list[Any]:
        """The model of an ablation, under its name there."""
        node = top.others["base"]
        if design != "ablation" or "model" in top.values:
            raise self.error(
                node, "base is the model of an ablation; in other designs, and beside model, leave it out"
            )
        self.places["model"] = self.place(node)
        return self._values("base", "model", node, trained=True)

    def grids(self, node: yaml.Node | None) -> list[dict[str, list[Any]]]:
        if node is None:
            return []
        self._refuse_tag(node)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(node, "grids must be a list of mappings, such as '- {optimizer: sgd, lr: 0.1}'")
        return [self.section(part, _FIELDS).values for part in node.value]

    def check_arguments(self, values: Mapping[str, list[Any]]) -> None:
        """Check the arguments of the parts that one grid names, which may stand apart from the parts."""
        for name in PARTS:
            given = [key for key in values if key == f"{name}_args" or key.startswith(f"{name}.")]
            if given and name in values:
                try:
                    designs.expand({key: values[key] for key in (name, *given)})
                except InputError as error:
                    raise ConfigError(f"{self.places[given[0]]}: {error}") from None

    def claims(self, node: yaml.Node | None, smallest: yaml.Node | None = None) -> tuple[Claim, ...]:
        """The claims of a study.

        Args:
            node: the list of claims.
            smallest: the smallest effect of interest, for claims in points that state none.
        """
        shared = self._smallest_effect(smallest)
        if node is None:
            return ()
        self._refuse_tag(node)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(
                node, "claims must be a list of mappings, each with says, better (or varies) and than"
            )
        return tuple(self._claim(claim, shared) for claim in node.value)

    def _smallest_effect(self, node: yaml.Node | None) -> float | None:
        value = self.scalar(node, None)
        if value is None:
            return None
        assert node is not None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise self.error(node, f"smallest_effect must be a number of at least 0; got {shown(value)}")
        return value

    def _claim(self, node: yaml.Node, smallest_points: float | None) -> Claim:
        given = self.section(node, _CLAIM_KEYS).others
        if len({"better", "varies"} & given.keys()) != 1 or not {"says", "than"} <= given.keys():
            raise self.error(node, "a claim has says, than, and either better or varies")
        says, spread = self.scalar(given["says"], ""), "varies" in given
        if not isinstance(says, str) or not says.strip():
            raise self.error(given["says"], f"says must be a sentence; got {shown(says)}")
        metric = self._metric(given, "")
        first, second = self._sides(given["varies" if spread else "better"], given["than"], metric, spread)
        keys = [side.metric or "test_accuracy" for side in (first, second)]
        if metric_named(keys[0]) != metric_named(keys[1]):
            raise self.error(given["than"], f"{keys[0]} and {keys[1]} cannot be compared")
        points = self.scalar(given.get("points"), None)
        if points is not None and (spread or isinstance(points, bool) or not isinstance(points, int | float)):
            problem = (
                "points applies only to better; leave points out" if spread else "points must be a number"
            )
            raise self.error(given["points"], f"{problem}; got {shown(points)}")
        smallest = self._smallest_effect(given.get("smallest_effect"))
        source = " ".join(str(self.scalar(given.get("source"), "")).split())
        return Claim(" ".join(says.split()), first, second, spread, points, smallest, smallest_points, source)

    def published(self, node: yaml.Node | None) -> tuple[Published, ...]:
        if node is None:
            return ()
        self._refuse_tag(node)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(node, "published must be a list of mappings, each with name, source and metrics")
        return tuple(map(self._published, node.value))

    def _published(self, node: yaml.Node) -> Published:
        keys = (*_PUBLISHED_KEYS, "of", "num_params", *METRICS, *KNOWN_METRICS)
        given = self.section(node, keys, also=is_metric).others
        of = self._side(given.pop("of"), "") if "of" in given else None
        texts = [self.scalar(given.get(name), "") for name in _PUBLISHED_KEYS]
        for name, text in zip(_PUBLISHED_KEYS, texts, strict=True):
            if not isinstance(text, str) or not text.strip():
                raise self.error(given.get(name, node), f"a published result has a {name}; got {shown(text)}")
        values: dict[str, float] = {}
        for name, value in given.items():
            if name not in _PUBLISHED_KEYS:
                try:
                    key, number = published_value(name, self.scalar(value, None))
                except InputError as error:
                    raise self.error(value, error) from None
                values[key] = number
        if not values:
            raise self.error(node, "a published result has a metric, such as 'test/accuracy: 0.98'")
        name, source = (" ".join(text.split()) for text in texts)
        return Published(name, source, values, of=of)

    def _sides(
        self, first: yaml.Node, second: yaml.Node, metric: str, spread: bool
    ) -> tuple[Selection, Selection]:
        """The two sides of a claim, one of which may be a number in place of trials."""
        numbers = [each for each in (first, second) if isinstance(each, yaml.ScalarNode)]
        if spread or len(numbers) != 1:
            return self._side(first, metric), self._side(second, metric)
        (node,) = numbers
        value = self._value(node)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(node, f"a side of a claim selects trials or is a number; got {shown(value)}")
        trials = self._side(second if node is first else first, metric)
        number = Selection((), trials.metric, self.place(node), float(value))
        return (number, trials) if node is first else (trials, number)

    def _side(self, node: yaml.Node, metric: str) -> Selection:
        side = self.section(node, _SIDE_KEYS, trained=False)
        fields = tuple((name, tuple(values)) for name, values in side.values.items())
        if not fields:
            raise self.error(node, "this selects every trial; name a field, such as {model: Baseline}")
        return Selection(fields, self._metric(side.others, metric), self.place(node))

    def _metric(self, given: Mapping[str, yaml.Node], default: str) -> str:
        """The key of the metric that a mapping names, under ``metric`` or its older name ``figure``."""
        if {"metric", "figure"} <= given.keys():
            raise self.error(given["figure"], "figure is another name of metric; keep one of them")
        node = given.get("metric", given.get("figure"))
        if node is None:
            return default
        try:
            return metric_key(str(self.scalar(node, "")))
        except UnknownNameError as error:
            raise self.error(node, error) from None

    def section(
        self,
        node: yaml.Node,
        keys: tuple[str, ...],
        *,
        values: bool = True,
        trained: bool = True,
        also: Callable[[str], bool] = lambda _: False,
    ) -> _Section:
        """Read one mapping and check that each key is known and given once, and that each value is possible.

        Args:
            node: the mapping.
            keys: the keys that are allowed.
            values: whether to read the fields of trials.
            trained: whether the fields describe trials to train; if not, models are not looked up.
            also: whether any other key is allowed.
        """
        self._refuse_tag(node)
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected 'key: value'; got {shown(self._value(node))}")
        section = _Section()
        lines: dict[str, str] = {}
        for key_node, value_node in self._merged(node):
            key = self._value(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            is_path = isinstance(key, str) and "model" in keys and _PATH.fullmatch(key) is not None
            if not isinstance(key, str) or not (key in keys or is_path or also(key)):
                raise self.error(key_node, unknown("key", key, keys))
            name = ALIASES.get(key, key)
            if name in lines:
                raise self.error(key_node, f"{key!r} is already given at {lines[name]}; keep one of them")
            lines[name] = self.place(key_node)
            is_field = is_path or key in _FIELDS
            if is_field and values:
                section.values[name] = self._values(key, name, value_node, trained)
                if trained:
                    self.places.setdefault(name, self.place(value_node))
            elif not is_field:
                section.others[key] = value_node
        return section

    def _merged(
        self, node: yaml.MappingNode, seen: frozenset[int] = frozenset()
    ) -> list[tuple[yaml.Node, yaml.Node]]:
        """The keys and values of a mapping, with those of ``<<: *other`` that it does not give itself."""
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        known = {key.value for key, _ in own if isinstance(key, yaml.ScalarNode)}
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(other, yaml.MappingNode) or id(other) in seen or len(seen) > _DEEPEST:
                    raise self.error(key, "'<<' merges mappings, such as '<<: *other'; got something else")
                for pair in self._merged(other, seen | {id(node)}):
                    if not (isinstance(pair[0], yaml.ScalarNode) and pair[0].value in known):
                        own.append(pair)
                        known.add(pair[0].value)
        return own

    def _refuse_repetition(self, node: yaml.Node) -> None:
        """A key that a mapping gives twice would silently win over the first."""
        left, seen = [node], set()
        while left:
            part = left.pop()
            if id(part) in seen or isinstance(part, yaml.ScalarNode):
                continue
            seen.add(id(part))
            if isinstance(part, yaml.SequenceNode):
                left += part.value
                continue
            places: dict[str, str] = {}
            for key, value in part.value:
                left.append(value)
                if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                    if key.value in places:
                        raise self.error(
                            key, f"{key.value!r} is given already at {places[key.value]}; keep one of them"
                        )
                    places[key.value] = self.place(key)

    def _values(self, key: str, name: str, node: yaml.Node, trained: bool) -> list[Any]:
        if key == "seeds" and isinstance(node, yaml.ScalarNode):
            try:
                return list(designs.first_seeds(self._value(node)))
            except InputError as error:
                raise self.error(node, error) from None
        self._refuse_tag(node)
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        items = _rejoined(items) if name in PARTS else items
        values = [self._value(item) for item in items]
        values = seeds.drawn(values) if name in seeds.FIELDS else values
        if not trained or "." in name or name.endswith("_args"):
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
        """A value as :class:`TrialSpec` converts it; a part as it is written, an argument as it is."""
        part, _, argument = name.partition(".")
        try:
            if argument:
                field = f"{part}_args"
                return dict(getattr(make_trial_spec({field: {argument: value}}), field))[argument]
            checked = getattr(make_trial_spec({name: value}), name)
            return value if name in PARTS else checked
        except InputError as error:
            raise self.error(node, error) from None

    def _check(self, node: yaml.Node, name: str, values: list[Any]) -> None:
        try:
            designs.expand({name: values})
        except InputError as error:
            raise self.error(node, error) from None

    def _value(self, node: yaml.Node) -> Any:
        self._refuse_repetition(node)
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise self.error(node, "this value cannot be read") from None


def _rejoined(items: list[yaml.Node]) -> list[yaml.Node]:
    """The items of a list, those put together again that YAML has split at the commas inside a part's brackets."""
    whole: list[yaml.Node] = []
    for item in items:
        last = whole[-1] if whole else None
        if (
            isinstance(item, yaml.ScalarNode)
            and isinstance(last, yaml.ScalarNode)
            and item.style is last.style is None
            and not is_closed(last.value)
        ):
            text = f"{last.value}, {item.value}"
            whole[-1] = yaml.ScalarNode("tag:yaml.org,2002:str", text, last.start_mark, item.end_mark)
        else:
            whole.append(item)
    return whole
