"""The compiled functions that the trials of one program share, and the arrays that they take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dlbench.errors import InputError
from dlbench.execution import starting
from dlbench.execution.compiling import Build, Executable
from dlbench.execution.images import LANES_OF_DATA, DeviceData, Rows, images_of
from dlbench.models.counts import too_small
from dlbench.models.mode import initial_mode, layers_with_modes, mode
from dlbench.models.sizes import has_empty_arrays, least_side, traced
from dlbench.spec.metrics import metric, metric_of
from dlbench.spec.registry import CRITERIA
from dlbench.spec.switches import SPELLINGS
from dlbench.spec.trial import Trial
from dlbench.training import evaluation, metrics
from dlbench.training.losses import mean_loss
from dlbench.training.state import Coefficient, Data, Hyper, Keys, Static, TrainState


@dataclass(frozen=True)
class CompiledProgram:
    """The compiled functions that the trials of one program share, and the seconds that compiling them took.

    ``memory_bytes`` is what an epoch needs at once, as XLA plans it: the images and other arguments, results and
    temporary arrays; ``None`` where that is not known.

    ``validate`` returns the new state, loss, accuracy, and the trials' own metric for each lane: ``None`` where it is
    one of the two. ``predict`` takes images and the rows of them that count (``None`` for all), and returns logits on
    the host.
    """

    init: Callable[..., Any]
    train_epoch: Callable[..., Any]
    validate: Callable[..., Any]
    predict: Callable[..., NDArray[Any]]
    compile_s: float
    memory_bytes: int | None


#: The fields of the static part that validation alone depends on, and the parts and numbers that it uses.
_OF_VALIDATION = ("val_transform", "val_transform_args")
_VALIDATED = ("model", "criterion", "ema_decay", "val_transform")


def compile_program(
    static: Static,
    dataset: DeviceData,
    data: Data,
    keys: Keys,
    hyper: Hyper,
    trial: Trial,
    done: dict[object, Executable],
) -> CompiledProgram:
    """Compile all functions of a trial before running any of them, so that compilation is timed separately.

    Each function gets only those fields of the static part on which it depends, and is shared by programs in which
    these fields are equal. For example, another batch size needs another epoch function, but the same functions for
    initialisation, validation and testing.

    Args:
        static: the static part.
        dataset: the data set.
        data: the data of one trial, or of one trial per lane.
        keys: the keys, likewise.
        hyper: the hyper-parameters, likewise.
        trial: the trial.
        done: the functions that this process has already compiled; new ones are added.

    Raises:
        InputError: the model cannot be trained.
    """
    sign = -1 if metric(metric_of(trial.spec, "val")).lower_is_better else 1
    build = Build(trial, done)
    images = images_of(build, dataset)
    fast = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}
    by_model = Static(static.model, pixels=static.pixels)
    by_optimizer = replace(
        by_model,
        optimizer=static.optimizer,
        decay_mode=static.decay_mode,
        optimizer_args=static.optimizer_args,
        decay_on=static.decay_on,
    )
    by_criterion = replace(
        by_model,
        criterion=static.criterion,
        criterion_args=static.criterion_args,
        **{name: getattr(static, name) for name in _OF_VALIDATION},
    )
    unseen = {name: getattr(by_model, name) for name in ("metric", "metric_args", *_OF_VALIDATION)}
    by_everything = replace(static, **unseen)  # but what the epoch does not see
    if score := metrics.scorer(trial.spec):
        by_optimizer = replace(by_optimizer, metric=static.metric)
    axes = (LANES_OF_DATA, 0, 0)
    start, state = starting.prepare(build, by_optimizer, axes, images.example(data), keys, hyper, **fast)
    validated = hyper.only(*_VALIDATED)
    without_optimizer = state._replace(opt_state=None)
    if score is None:
        by_metric = replace(by_criterion, metric=static.metric)
        validation = images.validate(by_metric, without_optimizer, data, validated)
    else:
        prediction = images.predict_validation(by_criterion, without_optimizer, data, validated)
        loss = state.best_val_loss
        choice = build(evaluation.choose, None, (0,) * 5, without_optimizer, validated, loss, loss, loss)

    def init(data: Data, keys: Keys, hyper: Hyper) -> TrainState:
        return start(images.example(data), keys, hyper)

    def validate(state: TrainState, data: Data, hyper: Hyper) -> Any:
        used, given = hyper.only(*_VALIDATED), state._replace(opt_state=None)
        if score is None:
            new, loss, accuracy = validation(given, data, used)
            return new._replace(opt_state=state.opt_state), loss, accuracy, None
        *outputs, loss, accuracy = prediction(given, data, used)
        logits, labels = map(np.asarray, outputs)
        lanes = range(trial.lanes)
        values = [score(lane_of(logits, n, trial.lanes), lane_of(labels, n, trial.lanes)) for n in lanes]
        signed = jnp.asarray([sign * value for value in values], jnp.float32).reshape(loss.shape)
        new = choice(given, used, signed, loss, accuracy)
        return new._replace(opt_state=state.opt_state), loss, accuracy, values

    predicted = images.predict(by_model, state, hyper.only("model"))

    def predict(params: Any, batch_stats: Any, images: Any, rows: Rows, hyper: Hyper) -> NDArray[Any]:
        logits: NDArray[Any] = predicted(params, batch_stats, images, rows, hyper.only("model"))
        return logits

    train_epoch = images.train_epoch(by_everything, state, data, keys, hyper)
    return CompiledProgram(
        init=init,
        train_epoch=train_epoch,
        validate=validate,
        predict=predict,
        compile_s=build.seconds,
        memory_bytes=_memory_bytes(train_epoch),
    )


def _memory_bytes(call: Any) -> int | None:
    """The bytes that a compiled function needs at once, as XLA plans it; ``None`` for several functions in turn."""
    planned = call.memory_analysis() if isinstance(call, jax.stages.Compiled) else None
    if planned is None:
        return None
    needed = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return int(sum(getattr(planned, name) for name in needed)) - int(planned.alias_size_in_bytes)


def mean_test_loss(
    trial: Trial, logits: Any, labels: jax.Array, class_weights: jax.Array | None
) -> jax.Array:
    """The mean loss of a trial over test images, with the bits of its operations one by one.

    On a CPU, a built-in criterion at its default arguments is one program, for which LLVM's optimisation, which would
    contract a product and a sum, is off. Each value of an argument would need another program.

    Args:
        trial: the trial.
        logits: float32 [N, num_classes].
        labels: int32 [N].
        class_weights: float32 [num_classes], or ``None``.
    """
    spec = trial.spec
    static = Static(None, criterion=spec.criterion, criterion_args=spec.criterion_args)
    is_common = not spec.criterion_args and not CRITERIA.users(spec.criterion)
    call = _loss_program(static) if is_common else functools.partial(mean_loss, static)
    loss: jax.Array = call(jnp.asarray(logits), labels, class_weights=class_weights)
    return loss


@functools.cache
def _loss_program(static: Static) -> Callable[..., jax.Array]:
    call = functools.partial(mean_loss, static)
    if jax.default_backend() != "cpu":
        return call
    return jax.jit(call, compiler_options={"xla_backend_optimization_level": 0})


def check_metric(trial: Trial, dataset: DeviceData) -> None:
    """Call a trial's metric with two images of random logits, before anything is compiled.

    Raises:
        InputError: it does not return one number, or raises an error.
    """
    if score := metrics.scorer(trial.spec):
        labels = np.asarray(dataset.test_labels)[:2]
        logits = np.random.default_rng(0).normal(size=(len(labels), dataset.num_classes)).astype(np.float32)
        try:
            score(logits, labels)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"the metric {trial.spec.selection_metric!r} raised {type(error).__name__}: {error}, for logits "
                f"{logits.shape} and labels {labels.shape}",
                field="selection_metric",
                value=trial.spec.selection_metric,
            ) from error


def check_model(model: Any, dataset: DeviceData, trial: Trial) -> None:
    """Trace a model on two images; check that it returns one logit per class and can be told to train.

    Raises:
        InputError: it does not; names the model, what it returned and what was expected.
    """
    images = jax.ShapeDtypeStruct((2, *dataset.train_images.shape[1:]), jnp.float32)
    expected = (2, dataset.num_classes)
    name = f"model {trial.spec.model!r}"
    wanted = f"expected float logits of shape {expected}, one per class, for float32 images of shape {images.shape}"
    try:
        if isinstance(model, nn.Module):
            _check_module(model, images, name, trial)
        logits, variables = traced(model, images)
    except InputError:
        raise
    except Exception as error:
        if least := least_side(model, images.shape[1:], dataset.num_classes):
            raise too_small(trial.spec.model, images.shape[1:], least) from error
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{name} raised {type(error).__name__}: {reason}; {wanted}") from error
    dtype = getattr(logits, "dtype", None)
    if dtype is None or logits.shape != expected or not jnp.issubdtype(dtype, jnp.floating):
        found = type(logits).__name__ if dtype is None else f"{dtype.name} {logits.shape}"
        raise InputError(f"{name} returned {found}; {wanted}")
    if not jax.tree.leaves(variables.params):
        raise InputError(
            f"{name} has no parameters to train; expected a Flax module with parameters in 'params'"
        )
    if has_empty_arrays(variables) and (least := least_side(model, images.shape[1:], dataset.num_classes)):
        raise too_small(trial.spec.model, images.shape[1:], least)


def _check_module(model: nn.Module, images: Any, name: str, trial: Trial) -> None:
    """What only a Linen module can get wrong: its collections, and how it is told to train."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}

    def trace() -> Any:
        given = initial_mode(model)
        return jax.eval_shape(lambda x: model.init_with_output(keys, x, **given), images)

    _, variables = trace()
    unknown = set(variables) - {"params", "batch_stats"}
    if unknown:
        raise InputError(
            f"{name} has variables in {', '.join(sorted(unknown))}; only the collections 'params' and 'batch_stats' "
            "are supported"
        )
    if not mode(model, True) and (layers := layers_with_modes(trace) or set(variables) & {"batch_stats"}):
        raise InputError(
            f"{name} has {', '.join(sorted(layers))}, but its __call__ names no argument that tells training from "
            f"evaluation (one of {', '.join(SPELLINGS)}), so it would never be in training mode",
            field="model",
            value=trial.spec.model,
            remedy="give __call__ an argument such as train: bool = False",
        )


def inputs_of(trial: Trial) -> tuple[Keys, Hyper]:
    """Keys and hyper-parameters of a trial; purposes that do not follow the seed use their own, or seed 0."""
    spec = trial.spec
    seeds = {purpose: spec.seed if spec.vary in ("all", purpose) else 0 for purpose in Keys._fields}
    seeds |= {purpose: own for purpose in seeds if (own := getattr(spec, f"{purpose}_seed")) is not None}
    made = {seed: purpose_keys(seed) for seed in dict.fromkeys(seeds.values())}
    keys = Keys(*(getattr(made[seed], purpose) for purpose, seed in seeds.items()))
    others = {name: Coefficient.of(value) for name, value in spec.dynamic().items()}
    return keys, Hyper(jnp.float32(spec.learning_rate), jnp.float32(spec.weight_decay), others)


def purpose_keys(seed: int) -> Keys:
    """:func:`dlbench.training.loop.purpose_keys` of the key of a seed below 2**32, without a compiled program."""
    words: Any = np.array([starting.threefry(0, seed, n) for n in range(len(Keys._fields))], np.uint32)
    return Keys(*(jax.random.wrap_key_data(each, impl="threefry2x32") for each in words))


def lane_of(tree: Any, lane: int, lanes: int) -> Any:
    """One lane of a tree of arrays; the tree itself if there are no lanes."""
    return tree if lanes == 1 else jax.tree.map(lambda leaf: leaf[lane, ...], tree)


def with_lane(tree: Any, lane: int, own: Any, lanes: int) -> Any:
    """The tree of arrays with one lane replaced; ``own`` itself if there are no lanes."""
    return own if lanes == 1 else jax.tree.map(lambda leaf, new: leaf.at[lane].set(new), tree, own)


def stack(inputs: list[Any], lanes: int) -> Any:
    """Stack trees of arrays along a leading lane axis; the tree itself if there are no lanes.

    Arrays that all the trees share, such as a data set's images, stay as they are.
    """

    def stacked(*leaves: Any) -> Any:
        shared = all(leaf is leaves[0] for leaf in leaves) and leaves[0].ndim > 0 and len(leaves) > 1
        return leaves[0] if shared else jnp.stack(leaves)

    return inputs[0] if lanes == 1 else jax.tree.map(stacked, *inputs)
