"""How fast this machine trains, learned from its trials, so that estimates fit it. No jax.

What is expected of a trial goes by its operations and by the processor on which that was measured. A file in the cache
folder keeps, model by model, how many times that the latest trials really took. Nothing but estimates depends on it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

from dlbench import files
from dlbench.errors import StoreError

#: Trials of a model, and models, that are kept: the latest.
_LATEST, _MODELS = 10, 200
#: Trials that took fewer seconds than this say little: mostly how long a trial takes to begin and end.
_LEAST_S = 1.0
#: Larger than the file ever becomes, in bytes; a file above it is not dlbench's.
_LONGEST = 2**20


def ratio(model: str) -> float:
    """How many times the expected time a trial of this model takes here: that of all models if it is a new one.

    Args:
        model: names the model with everything on which its speed depends.
    """
    known = _read(_file())
    if model in known:
        return statistics.median(known[model])
    return statistics.median(map(statistics.median, known.values())) if known else 1.0


def learn(trials: Iterable[tuple[str, float, float]]) -> None:
    """Keep how long trials took; nothing if the cache cannot be written.

    Args:
        trials: of each the model as for :func:`ratio`, the expected seconds, and those that it took.
    """
    new: dict[str, list[float]] = {}
    for model, expected_s, took_s in trials:
        if took_s >= _LEAST_S and expected_s > 0:
            new.setdefault(model, []).append(took_s / expected_s)
    if not new:
        return
    known = _read(_file())
    kept = {model: found for model, found in known.items() if model not in new}
    latest = {model: [*known.get(model, ()), *found][-_LATEST:] for model, found in new.items()}
    text = json.dumps(dict([*kept.items(), *latest.items()][-_MODELS:]))
    with contextlib.suppress(OSError, StoreError):
        files.write_whole(_file(), lambda file: file.write(text.encode()))
    _read.cache_clear()


def _file() -> Path:
    return files.cache_root() / "rates.json"


@functools.cache
def _read(path: Path) -> Mapping[str, list[float]]:
    try:
        found = json.loads(files.read(path, _LONGEST))
        return {
            str(model): [each for each in map(float, ratios) if each > 0] or [1.0]
            for model, ratios in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, StoreError):
        return {}
