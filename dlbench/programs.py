"""The compiled functions that the trials of one program share, and the arrays they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlbench import train
from dlbench.errors import InputError
from dlbench.spec import Trial


@dataclass(frozen=True)
class Program:
    """The compiled functions that the trials of one program share."""

    init: Callable[..., Any]
    train_epoch: Callable[..., Any]
    validate: Callable[..., Any]
    predict: Callable[..., Any]


@dataclass(frozen=True)
class Split:
    """A data set on the device, divided for training."""

    arrays: train.Data
    test_images: jax.Array
    test_labels: np.ndarray[Any, Any]
    num_classes: int
    digest: str


def compile_program(
    static: train.Static, split: Split, keys: train.Keys, hyper: train.Hyper, trial: Trial
) -> Program:
    """Compile what a trial runs, before any of it runs, so that compiling and training are timed apart."""
    lanes = trial.lanes > 1

    def build(
        function: Callable[..., Any], axes: Sequence[int | None], *arguments: Any, **options: Any
    ) -> Any:
        mapped = jax.vmap(function, in_axes=tuple(axes)) if lanes else function
        return jax.jit(mapped).lower(*arguments).compile(compiler_options=options or None)

    def initialise(data: train.Data, keys: train.Keys, hyper: train.Hyper) -> train.TrainState:
        return train.init(static, data, keys, hyper)

    def train_epoch(state: Any, data: train.Data, keys: train.Keys, hyper: train.Hyper) -> Any:
        return train.train_epoch(static, state, data, keys, hyper)

    def validate(state: Any, data: train.Data) -> Any:
        return train.validate(static, state, data)

    def predict(params: Any, batch_stats: Any, images: jax.Array) -> Any:
        return train.predict(static, params, batch_stats, images)

    check_model(static.model, split, trial)
    fast = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}
    init = build(initialise, (None, 0, 0), split.arrays, keys, hyper, **fast)
    state = init.out_info
    return Program(
        init=init,
        train_epoch=build(train_epoch, (0, None, 0, 0), state, split.arrays, keys, hyper),
        validate=build(validate, (0, None), state, split.arrays),
        predict=build(predict, (0, 0, None), state.best_params, state.best_batch_stats, split.test_images),
    )


def check_model(model: Any, split: Split, trial: Trial) -> None:
    """Trace a model on one image and refuse it if it does not answer with one logit a class.

    Raises:
        InputError: naming the model, what it returned and what was expected.
    """
    images = jax.ShapeDtypeStruct((2, *split.arrays.train_images.shape[1:]), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    expected = (2, split.num_classes)
    name = f"model {trial.spec.model!r}"
    wanted = f"expected float logits of shape {expected}, one a class, for images float32 {images.shape}"
    try:
        logits, variables = jax.eval_shape(lambda x: model.init_with_output(keys, x), images)
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        raise InputError(f"{name} raised {type(error).__name__}: {said}; {wanted}") from error
    dtype = getattr(logits, "dtype", None)
    if dtype is None or logits.shape != expected or not jnp.issubdtype(dtype, jnp.floating):
        found = type(logits).__name__ if dtype is None else f"{dtype.name} {logits.shape}"
        raise InputError(f"{name} returned {found}; {wanted}")
    if not jax.tree.leaves(variables.get("params")):
        raise InputError(f"{name} has no parameters to train; expected a flax module with some in 'params'")
    unknown = set(variables) - {"params", "batch_stats"}
    if unknown:
        raise InputError(
            f"{name} keeps {', '.join(sorted(unknown))}; only 'params' and 'batch_stats' "
            "are trained, saved and restored"
        )


def inputs_of(trial: Trial) -> tuple[train.Keys, train.Hyper]:
    """Keys and hyper-parameters of a trial; the purposes that do not vary keep seed 0."""
    spec = trial.spec
    varied = train.purpose_keys(jax.random.key(spec.seed))
    fixed = train.purpose_keys(jax.random.key(0))
    keys = train.Keys(
        *(
            ours if spec.vary in ("all", purpose) else theirs
            for purpose, ours, theirs in zip(train.Keys._fields, varied, fixed, strict=True)
        )
    )
    return keys, train.Hyper(jnp.float32(spec.learning_rate), jnp.float32(spec.weight_decay))


def lane_of(tree: Any, lane: int, lanes: int) -> Any:
    """One lane of a tree of arrays; the whole where there are no lanes."""
    return tree if lanes == 1 else jax.tree.map(lambda leaf: leaf[lane], tree)


def stack(inputs: list[Any], lanes: int) -> Any:
    """Trees of arrays with a leading lane axis; the tree itself where there are no lanes."""
    return inputs[0] if lanes == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *inputs)
