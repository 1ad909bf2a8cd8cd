"""Learning rate schedules: against PyTorch's, as NumPy and compiled, and in the training steps."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlbench.spec.registry import SCHEDULES
from dlbench.training import loop
from dlbench.training.state import Coefficient, Data, Hyper, Static, TrainState

STEPS_PER_EPOCH, EPOCHS = 7, 9
#: Compiled in half the time: little is run.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
TOTAL = STEPS_PER_EPOCH * EPOCHS


def factors(
    name: str, steps_per_epoch: int = STEPS_PER_EPOCH, epochs: int = EPOCHS, **arguments: Any
) -> np.ndarray[Any, Any]:
    """The factor of every step, float64, as tables and curves have it."""
    schedule = SCHEDULES.load(name)
    steps = np.arange(steps_per_epoch * epochs, dtype=np.float64)
    return np.asarray(schedule(steps, steps_per_epoch, float(epochs), **arguments)) * np.ones_like(steps)


def stepped(make: Any, steps: int = TOTAL, every: int = 1) -> np.ndarray[Any, Any]:
    """The rates of a scheduler of PyTorch's whose highest is 1, stepped once in so many steps."""
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here: install dlbench[oracle]")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return np.array(rates)


def after_warmup(length: int, make: Any) -> Any:
    """A linear warm-up over so many steps, and then another scheduler."""

    def chained(schedulers: Any, optimizer: Any) -> Any:
        warmup = schedulers.LinearLR(optimizer, start_factor=1 / length, total_iters=length - 1)
        return schedulers.SequentialLR(optimizer, [warmup, make(schedulers, optimizer)], [length])

    return chained


CASES: dict[str, tuple[str, dict[str, Any], Any, int]] = {
    "constant": ("constant", {}, lambda s, o: s.ConstantLR(o, factor=1.0), 1),
    "constant after warm-up": (
        "constant",
        {"warmup": 2.0},
        after_warmup(14, lambda s, o: s.ConstantLR(o, factor=1.0)),
        1,
    ),
    "constant after steps": (
        "constant",
        {"warmup": 1.0, "warmup_steps": 3.0},
        after_warmup(10, lambda s, o: s.ConstantLR(o, factor=1.0)),
        1,
    ),
    "cosine": ("cosine", {}, lambda s, o: s.CosineAnnealingLR(o, TOTAL), 1),
    "cosine to an end": (
        "cosine",
        {"final": 0.2},
        lambda s, o: s.CosineAnnealingLR(o, TOTAL, eta_min=0.2),
        1,
    ),
    "cosine per epoch": (
        "cosine",
        {"per": "epoch"},
        lambda s, o: s.CosineAnnealingLR(o, EPOCHS),
        STEPS_PER_EPOCH,
    ),
    "cosine after warm-up": (
        "cosine",
        {"warmup": 1.0, "final": 0.1},
        after_warmup(7, lambda s, o: s.CosineAnnealingLR(o, TOTAL - 7, eta_min=0.1)),
        1,
    ),
    "cosine after steps": (
        "cosine",
        {"warmup_steps": 5.0},
        after_warmup(5, lambda s, o: s.CosineAnnealingLR(o, TOTAL - 5)),
        1,
    ),
    "linear": ("linear", {}, lambda s, o: s.LinearLR(o, 1.0, 0.0, TOTAL), 1),
    "linear per epoch": (
        "linear",
        {"final": 0.25, "per": "epoch"},
        lambda s, o: s.LinearLR(o, 1.0, 0.25, EPOCHS),
        STEPS_PER_EPOCH,
    ),
    "linear after warm-up": (
        "linear",
        {"warmup": 2.0},
        after_warmup(14, lambda s, o: s.LinearLR(o, 1.0, 0.0, TOTAL - 14)),
        1,
    ),
    "step": ("step", {"every": 2.0, "factor": 0.5}, lambda s, o: s.StepLR(o, 2, 0.5), STEPS_PER_EPOCH),
    "exponential": ("exponential", {"factor": 0.8}, lambda s, o: s.ExponentialLR(o, 0.8), STEPS_PER_EPOCH),
    "exponential per step": (
        "exponential",
        {"factor": 0.8, "per": "step"},
        lambda s, o: s.ExponentialLR(o, 0.8 ** (1 / STEPS_PER_EPOCH)),
        1,
    ),
    "exponential after warm-up": (
        "exponential",
        {"factor": 0.8, "per": "step", "warmup": 1.0},
        after_warmup(7, lambda s, o: s.ExponentialLR(o, 0.8 ** (1 / STEPS_PER_EPOCH))),
        1,
    ),
    "one-cycle": ("one-cycle", {}, lambda s, o: s.OneCycleLR(o, 1.0, TOTAL, final_div_factor=1e4), 1),
    "one-cycle with arguments": (
        "one-cycle",
        {"rising": 0.45, "initial": 0.1, "final": 0.01},
        lambda s, o: s.OneCycleLR(o, 1.0, TOTAL, pct_start=0.45, div_factor=10, final_div_factor=10),
        1,
    ),
}


def test_every_schedule_is_compared() -> None:
    assert {name for name, *_ in CASES.values()} == SCHEDULES.built_in.keys()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_rates_are_pytorchs(case: str) -> None:
    name, arguments, make, every = CASES[case]
    np.testing.assert_allclose(factors(name, **arguments), stepped(make, every=every), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("per_epoch", ["cosine", "linear", "exponential"])
def test_a_warm_up_rises_with_every_step_and_what_follows_may_change_per_epoch(per_epoch: str) -> None:
    found = factors(per_epoch, per="epoch", warmup=2.0).reshape(EPOCHS, STEPS_PER_EPOCH)
    np.testing.assert_allclose(found[:2].ravel(), np.arange(1, 15) / 14)
    alone = factors(per_epoch, epochs=EPOCHS - 2, per="epoch").reshape(EPOCHS - 2, STEPS_PER_EPOCH)
    np.testing.assert_allclose(found[2:], alone)
    assert all(len(set(epoch)) == 1 for epoch in found[2:])


def test_steps_down_count_the_epochs_of_the_warm_up() -> None:
    plain, warmed = factors("step", every=3.0), factors("step", every=3.0, warmup=2.0)
    np.testing.assert_allclose(warmed[14:], plain[14:])
    np.testing.assert_allclose(warmed[:14], np.arange(1, 15) / 14)


@pytest.mark.parametrize("name", SCHEDULES.built_in)
@pytest.mark.parametrize(("steps_per_epoch", "epochs"), [(1, 1), (1, 2), (3, 1), (1, 50)])
def test_trainings_of_few_steps_have_rates_too(name: str, steps_per_epoch: int, epochs: int) -> None:
    lengths = [{}] if name == "one-cycle" else [{}, {"warmup": float(epochs)}, {"warmup_steps": 1.0}]
    for arguments in lengths:
        found = factors(name, steps_per_epoch, epochs, **arguments)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert found.max() <= 1 + 1e-12


# Compiled


def compiled(name: str, steps_per_epoch: int, epochs: int, **arguments: Any) -> np.ndarray[Any, Any]:
    """The factor of every step, float32, as a compiled program computes them one by one."""
    schedule = SCHEDULES.load(name)
    arrays = {key: jnp.float32(value) for key, value in arguments.items() if isinstance(value, float)}
    static = {key: value for key, value in arguments.items() if key not in arrays}

    @quick
    def run(steps: Any, epochs: Any, arrays: Any) -> Any:
        return jax.lax.map(
            lambda step: jnp.float32(
                schedule(step.astype(jnp.float32), steps_per_epoch, epochs, **arrays, **static)
            ),
            steps,
        )

    return np.asarray(run(jnp.arange(steps_per_epoch * epochs), jnp.float32(epochs), arrays))


@pytest.mark.parametrize("case", CASES)
def test_compiled_rates_are_those_of_tables(case: str) -> None:
    name, arguments, *_ = CASES[case]
    found = compiled(name, STEPS_PER_EPOCH, EPOCHS, **arguments)
    np.testing.assert_allclose(found, factors(name, **arguments), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"), [("exponential", {"factor": 0.5}), ("step", {"every": 1.0, "factor": 0.5})]
)
def test_rates_change_at_the_first_step_of_an_epoch_however_long_epochs_are(
    name: str, arguments: dict[str, float]
) -> None:
    """A quotient that rounds to just below a whole number would change them a step late."""
    epochs = 100

    @functools.partial(quick, static_argnums=0)
    def run(steps_per_epoch: int, steps: Any) -> Any:
        numbers = {key: jnp.float32(value) for key, value in arguments.items()}
        return SCHEDULES.load(name)(steps, steps_per_epoch, jnp.float32(epochs), **numbers)

    for steps_per_epoch in (1, 3, 41, 49, 107, 469, 3750):
        found = run(steps_per_epoch, jnp.arange(steps_per_epoch * epochs, dtype=jnp.float32))
        expected = np.repeat(0.5 ** np.arange(epochs), steps_per_epoch)
        np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=str(steps_per_epoch))


# In training


def initialise(key: jax.Array, images: jax.Array) -> Any:
    return {"kernel": jax.random.normal(key, (16, 3)) / 4, "bias": jnp.zeros(3)}


def compute(params: Any, images: jax.Array) -> jax.Array:
    logits: jax.Array = images.reshape(images.shape[0], -1) @ params["kernel"] + params["bias"]
    return logits


MODEL = (initialise, compute)
IMAGES = np.random.default_rng(0).integers(0, 256, (22, 4, 4, 1), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 3, 22).astype(np.int32)
DATA = Data(*map(jnp.asarray, (IMAGES[:16], LABELS[:16], IMAGES[16:], LABELS[16:])))
KEYS = loop.purpose_keys(jax.random.key(3))


def test_the_rate_of_each_step_is_the_schedules() -> None:
    """Three epochs equal twelve steps with rates that NumPy computes; the last batch of each is short."""
    data = DATA._replace(train_images=DATA.train_images[:14], train_labels=DATA.train_labels[:14])
    static = Static(MODEL, 4, "sgd", schedule="cosine")
    numbers = {"schedule.warmup_steps": 3.0, "schedule.final": 0.1, "num_epochs": 3.0}
    others = {key: Coefficient.of(value) for key, value in numbers.items()}
    hyper = Hyper(jnp.float32(0.5), jnp.float32(0.01), others)
    rates = 0.5 * factors("cosine", 4, 3, warmup_steps=3.0, final=0.1)
    state = quick(loop.init, static_argnums=0)(static, data, KEYS, hyper)
    train_epoch = quick(functools.partial(loop.train_epoch, static))
    train_step = quick(functools.partial(loop.train_step, Static(MODEL, 4, "sgd")))
    steps = loop.Carry(state.params, state.batch_stats, state.opt_state, state.ema_params)
    for epoch in range(3):
        state, _, _ = train_epoch(state, data, KEYS, hyper)
        keys = type(KEYS)(*(jax.random.fold_in(key, epoch + 1) for key in KEYS))
        order = loop.permutation(keys.order, 14)
        for index, start in enumerate(range(0, 14, 4)):
            places = order[start : start + 4]
            steps, _ = train_step(
                steps,
                data.train_images[places],
                data.train_labels[places],
                keys,
                jnp.asarray(index),
                Hyper(jnp.float32(rates[4 * epoch + index]), jnp.float32(0.01)),
            )
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), state.params, steps.params
        )
    assert int(state.epoch) == 3


@pytest.mark.parametrize(
    "schedule",
    ["cosine", *(pytest.param(s, marks=pytest.mark.slow) for s in ("one-cycle", "exponential", "step"))],
)
def test_training_goes_on_from_a_state_with_the_rates_that_it_had_left(schedule: str) -> None:
    static = Static(MODEL, 4, "sgd", schedule=schedule)
    hyper = Hyper(jnp.float32(0.5), others={"num_epochs": Coefficient.of(4.0)})

    @quick
    def epoch(state: TrainState) -> TrainState:
        return loop.train_epoch(static, state, DATA, KEYS, hyper)[0]

    whole = [quick(loop.init, static_argnums=0)(static, DATA, KEYS, hyper)]
    for _ in range(4):
        whole.append(epoch(whole[-1]))
    kept = jax.tree.map(np.asarray, whole[2])
    again = epoch(epoch(jax.tree.map(jnp.asarray, kept)))
    jax.tree.map(np.testing.assert_array_equal, again, whole[4])
    if schedule in ("cosine", "one-cycle"):
        from_the_start = epoch(whole[2]._replace(epoch=jnp.zeros((), jnp.int32)))
        assert not np.array_equal(from_the_start.params["kernel"], whole[3].params["kernel"])
