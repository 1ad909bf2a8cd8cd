"""How fast this machine trains and compiles, learned from its studies, so that estimates fit it. No jax.

What is expected goes by operations and by the processor on which that was measured. A file in the cache folder keeps,
model by model, how many times that the latest studies really took, and which programs the cache of compiled programs
has. Nothing but estimates depends on it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dlbench import files
from dlbench.errors import StoreError

#: What takes time: training, compiling a program, and reading one that is compiled already.
Kind = Literal["training", "compiling", "loading"]
#: Studies of a model, models, and programs that are kept: the latest.
_LATEST, _MODELS, _PROGRAMS = 3, 200, 2000
#: What took fewer seconds than this says little.
_LEAST_S: Mapping[Kind, float] = {"training": 0.5, "compiling": 0.1, "loading": 0.1}
#: Larger than the file ever becomes, in bytes; a file above it is not dlbench's.
_LONGEST = 2**20


@dataclass(frozen=True)
class Known:
    """What earlier studies have shown: ratios by kind and model, the oldest first, and the compiled programs."""

    ratios: Mapping[Kind, Mapping[str, list[float]]] = field(default_factory=dict)
    programs: tuple[str, ...] = ()


def ratio(kind: Kind, model: str) -> float:
    """How many times the expected time this takes here: that of all models if it is a new one.

    Args:
        kind: what takes time.
        model: names the model with everything on which its speed depends.
    """
    known = _read(_file()).ratios.get(kind, {})
    if model in known:
        return statistics.median(known[model])
    return statistics.median(map(statistics.median, known.values())) if known else 1.0


def has_compiled(program: str) -> bool:
    """Whether a study has compiled this program here, by the name that it was learned by."""
    return program in _read(_file()).programs


def learn(found: Mapping[tuple[Kind, str], tuple[float, float]], programs: Iterable[str]) -> None:
    """Keep how long a study took; nothing if the cache cannot be written.

    Args:
        found: by kind and model as for :func:`ratio` the expected seconds, and those that it took.
        programs: names of the programs that were compiled.
    """
    known = _read(_file())
    ratios = {kind: dict(models) for kind, models in known.ratios.items()}
    for (kind, model), (expected_s, took_s) in found.items():
        if took_s >= _LEAST_S[kind] and expected_s > 0:
            models = ratios.setdefault(kind, {})
            models[model] = [*models.pop(model, ()), took_s / expected_s][-_LATEST:]
    latest = dict.fromkeys([*known.programs, *programs])
    record = {
        "ratios": {kind: dict([*models.items()][-_MODELS:]) for kind, models in ratios.items()},
        "programs": [*latest][-_PROGRAMS:],
    }
    with contextlib.suppress(OSError, StoreError):
        files.write_whole(_file(), lambda file: file.write(json.dumps(record).encode()))
    _read.cache_clear()


def _file() -> Path:
    return files.cache_root() / "rates.json"


@functools.cache
def _read(path: Path) -> Known:
    """The content of the file; nothing if it is damaged."""
    try:
        return _of_record(json.loads(files.read(path, _LONGEST)))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, StoreError):
        return Known()


def _of_record(record: Any) -> Known:
    ratios = {
        kind: {
            str(model): [each for each in map(float, found) if each > 0] or [1.0]
            for model, found in record["ratios"].get(kind, {}).items()
        }
        for kind in _LEAST_S
    }
    return Known(ratios, tuple(map(str, record["programs"])))
