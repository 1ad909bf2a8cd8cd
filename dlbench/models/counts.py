"""What is counted of a model: parameters and floating-point operations; or that its images are too small. No jax.

The built-in models' counts, on the images of the public data sets, are shipped in ``counted.json``, which
``python -m dlbench.models.counting`` writes and a test compares with the models. Any other count is made by a process
of its own, the first time that it is asked for, and kept in the cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dlbench import files
from dlbench.errors import DlbenchError, Field, InputError
from dlbench.records import digest
from dlbench.spec import live_code, registry
from dlbench.spec.parts import Arguments

TABLE = Path(__file__).parent / "counted.json"
#: Seconds that a process may take to count what is missing.
_PATIENCE_S = 120


@dataclass(frozen=True)
class Counts:
    """What a model costs for one image.

    Attributes:
        parameters: trainable numbers.
        forward_flops: products and sums of convolutions and matrix products, two operations each, padding included,
            of one forward pass.
        training_flops: the same of a training step: forward, and once again for the gradient of each factor that
            depends on parameters. The images themselves need no gradient.
    """

    parameters: int
    forward_flops: int
    training_flops: int


@dataclass(frozen=True)
class TooSmall:
    """In place of counts: the images are too small for the model.

    Attributes:
        least_side: the side of the smallest square images that it can take, in pixels.
    """

    least_side: int


@dataclass(frozen=True)
class Request:
    """What is to be counted.

    Attributes:
        model: canonical name or reference.
        arguments: what it is made with, besides the number of classes; defaults left out.
        image_shape: height, width, channels.
        num_classes: number of classes.
    """

    model: str
    arguments: Arguments
    image_shape: tuple[int, int, int]
    num_classes: int

    @property
    def images(self) -> str:
        """The images and classes, as the table names them."""
        return f"{'x'.join(map(str, self.image_shape))}, {self.num_classes} classes"


def at_hand(request: Request) -> Counts | None:
    """The counts that are shipped or in the cache; ``None`` where they would have to be made."""
    known = _known(request)
    return known if isinstance(known, Counts) else None


def _known(request: Request) -> Counts | TooSmall | None:
    if not request.arguments and (shipped := _table().get(request.model, {}).get(request.images)):
        return Counts(**shipped)
    path = _path(request)
    try:
        return None if path is None else _decoded(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _decoded(answer: Mapping[str, int] | None) -> Counts | TooSmall | None:
    if answer is None:
        return None
    return TooSmall(**answer) if "least_side" in answer else Counts(**answer)


def count(requests: Iterable[Request]) -> dict[Request, Counts]:
    """The counts of several models, made where there are none; whatever cannot be counted is left out.

    One process is started at most, and none for a model whose code this process has not named.
    """
    return {request: found for request, found in _found(requests).items() if isinstance(found, Counts)}


def check_sizes(requests: Iterable[Request]) -> None:
    """Make sure that images are large enough for the models that they are given to, as far as that can be known.

    A process is started as by :func:`count`.

    Raises:
        InputError: images are too small for a model; names the smallest size that it can take.
    """
    for request, found in _found(requests).items():
        if isinstance(found, TooSmall):
            raise too_small(request.model, request.image_shape, found.least_side)


def too_small(model: str, image_shape: Sequence[int], least: int) -> InputError:
    """The error about images that are too small for a model.

    Args:
        model: the model.
        image_shape: height, width, channels.
        least: the side of the smallest square images that it can take.
    """
    height, width, _ = image_shape
    return InputError(
        f"images of {height}x{width} are too small for model {model!r}: at least {least}x{least}",
        field="model",
        value=model,
        remedy=("use larger images, or another ", Field("model")),
    )


def _found(requests: Iterable[Request]) -> dict[Request, Counts | TooSmall]:
    """What is known of each request, asking a process for what is not; failures are left out."""
    wanted = dict.fromkeys(requests)
    found = {request: known for request in wanted if (known := _known(request))}
    missing = [request for request in wanted if request not in found and _may_run(request)]
    for request, answer in zip(missing, _counted(tuple(missing)), strict=True):
        if answer is not None:
            found[request] = answer
            _keep(request, answer)
    return found


@functools.cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, int]]]:
    table: Mapping[str, Mapping[str, Mapping[str, int]]] = json.loads(TABLE.read_text())
    return table


def _may_run(request: Request) -> bool:
    """Whether the model is known, trusted, found by another process and takes the arguments."""
    if not registry.MODELS.is_trusted(request.model) or live_code.is_in_memory(request.model):
        return False
    try:
        return registry.MODELS.arguments(request.model, request.arguments) == request.arguments
    except DlbenchError:
        return False


@functools.cache  # of failures too: they are not tried again
def _counted(requests: tuple[Request, ...]) -> list[Counts | TooSmall | None]:
    if not requests:
        return []
    path = registry.import_path(request.model for request in requests)
    asked = {"path": path, "requests": [asdict(request) for request in requests]}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "dlbench.models.counting", "-"],
            input=json.dumps(asked),
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
        )
        return list(map(_decoded, json.loads(done.stdout.splitlines()[-1])))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, IndexError):
        return [None] * len(requests)


def _path(request: Request) -> Path | None:
    """Where the cache keeps a count; it changes with the source of the model."""
    try:
        source = registry.MODELS.source_digest(request.model) if ":" in request.model else _own_source()
    except (DlbenchError, OSError):
        return None
    return files.cache_root() / "counts" / f"{digest([asdict(request), source])[:32]}.json"


@functools.cache
def _own_source() -> str:
    """Of the built-in models, and of how they are counted."""
    place = Path(__file__).parent
    hashed = hashlib.sha256()
    for path in sorted(place.glob("*.py")):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def _keep(request: Request, answer: Counts | TooSmall) -> None:
    path = _path(request)
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, lambda file: file.write(json.dumps(asdict(answer)).encode()))
    except OSError:
        pass  # it will be counted again
