"""Optimizers step by step: against PyTorch where it has them, else against their papers in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlbench.errors import InputError
from dlbench.training.optimizers import make_optimizer, orthogonalized
from dlbench.training.state import Coefficient

RATE, DECAY = 0.05, 0.3
STEPS = 12
Arrays = dict[str, np.ndarray[Any, Any]]

START: Arrays = {
    "kernel": np.random.default_rng(0).normal(size=(4, 6)),
    "bias": np.random.default_rng(1).normal(size=6),
    "convolution": np.random.default_rng(2).normal(size=(3, 3, 2, 4)),
}
#: Gradients of very different sizes, some of them zero.
GRADS: list[Arrays] = [
    {
        name: np.random.default_rng((step, place)).normal(size=start.shape)
        * 10.0 ** np.random.default_rng((step, place, 9)).integers(-3, 2, start.shape)
        * (np.arange(start.size).reshape(start.shape) % 5 > 0)
        for place, (name, start) in enumerate(START.items())
    }
    for step in range(STEPS)
]


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    found = pytest.importorskip("torch", reason="PyTorch is the reference here: install dlbench[oracle]")
    threads = found.get_num_threads()
    found.set_num_threads(1)
    yield found
    found.set_num_threads(threads)


def ours(
    name: str,
    arguments: dict[str, Any],
    decay: float = 0.0,
    mode: str = "decoupled",
    dtype: Any = np.float64,
    jitted: bool = False,
    **options: Any,
) -> list[Arrays]:
    """The parameters after each step."""
    history = []
    with jax.enable_x64(dtype is np.float64):
        params = {key: jnp.asarray(value, dtype) for key, value in START.items()}

        def step(params: Any, state: Any, grads: Any, arguments: Any) -> Any:
            tx = make_optimizer(name, RATE, decay, mode, tuple(arguments.items()), **options)
            updates, state = tx.update(grads, state, params)
            return jax.tree.map(jnp.add, params, updates), state

        state = make_optimizer(name, RATE, decay, mode, tuple(arguments.items()), **options).init(params)
        constant = {key: value for key, value in arguments.items() if not isinstance(value, Coefficient)}
        arrays = {key: value for key, value in arguments.items() if key not in constant}
        run = jax.jit(lambda p, s, g, a: step(p, s, g, constant | a)) if jitted else None
        for grads in GRADS:
            grads = {key: jnp.asarray(value, dtype) for key, value in grads.items()}
            params, state = (
                run(params, state, grads, arrays) if run else step(params, state, grads, arguments)
            )
            history.append({key: np.asarray(value) for key, value in params.items()})
    return history


def theirs(
    torch: Any, make: Callable[..., Any], decoupled: float = 0.0, on: Sequence[str] = tuple(START)
) -> list[Arrays]:
    """The parameters after each step of an optimizer of PyTorch's, with a decoupled decay where it has none."""
    params = {key: torch.tensor(value, requires_grad=True) for key, value in START.items()}
    optimizer = make(params)
    history = []
    for grads in GRADS:
        for key, param in params.items():
            param.grad = torch.tensor(grads[key])
            if decoupled and key in on:
                with torch.no_grad():
                    param.mul_(1 - RATE * decoupled)
        optimizer.step()
        history.append({key: param.detach().numpy().copy() for key, param in params.items()})
    return history


def agree(found: list[Arrays], expected: list[Arrays], tolerance: float = 1e-10) -> None:
    for step, (a, b) in enumerate(zip(found, expected, strict=True), 1):
        for key, value in b.items():
            np.testing.assert_allclose(
                a[key], value, rtol=tolerance, atol=tolerance, err_msg=f"{key}, step {step}"
            )


CASES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("sgd", {}, "SGD", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.0}, "SGD", {}),
    ("sgd", {"momentum": 0.8, "nesterov": True}, "SGD", {"momentum": 0.8, "nesterov": True}),
    ("adam", {}, "Adam", {}),
    ("adam", {"b1": 0.5, "b2": 0.9, "eps": 1e-3}, "Adam", {"betas": (0.5, 0.9), "eps": 1e-3}),
    ("rmsprop", {}, "RMSprop", {}),
    ("rmsprop", {"decay": 0.9, "eps": 1e-3}, "RMSprop", {"alpha": 0.9, "eps": 1e-3}),
    ("rmsprop", {"decay": 0.8, "momentum": 0.7}, "RMSprop", {"alpha": 0.8, "momentum": 0.7}),
]


@pytest.mark.parametrize("mode", ["none", "decoupled", "l2"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{[*case[1].items()]}")
def test_every_step_is_pytorchs(torch: Any, case: tuple[Any, ...], mode: str) -> None:
    name, arguments, reference, options = case
    decay = 0.0 if mode == "none" else DECAY
    found = ours(name, arguments, decay, "decoupled" if mode == "none" else mode)
    l2 = {"weight_decay": decay} if mode == "l2" else {}
    make = getattr(torch.optim, reference)
    expected = theirs(
        torch,
        lambda params: make(params.values(), lr=RATE, **options, **l2),
        decay if mode == "decoupled" else 0.0,
    )
    agree(found, expected)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adamw_is_pytorchs(torch: Any, name: str) -> None:
    arguments = {"b1": 0.8, "b2": 0.95, "eps": 1e-6}
    expected = theirs(
        torch,
        lambda params: torch.optim.AdamW(
            params.values(), lr=RATE, betas=(0.8, 0.95), eps=1e-6, weight_decay=DECAY
        ),
    )
    agree(ours(name, arguments, DECAY), expected)


@pytest.mark.parametrize("mode", ["decoupled", "l2"])
def test_weights_alone_can_decay(torch: Any, mode: str) -> None:
    """What has one axis, or none, does not; as with a parameter group of its own in PyTorch."""
    l2 = DECAY if mode == "l2" else 0.0

    def make(params: Any) -> Any:
        weights = [params["kernel"], params["convolution"]]
        groups = [{"params": weights, "weight_decay": l2}, {"params": [params["bias"]], "weight_decay": 0.0}]
        return torch.optim.SGD(groups, lr=RATE, momentum=0.9)

    expected = theirs(torch, make, 0.0 if mode == "l2" else DECAY, ("kernel", "convolution"))
    agree(ours("sgd", {}, DECAY, mode, decay_on="weights"), expected)
    assert not np.allclose(ours("sgd", {}, DECAY, mode)[-1]["bias"], expected[-1]["bias"])


@pytest.mark.parametrize("limit", [0.5, 30.0, 1e6])
@pytest.mark.parametrize("mode", ["decoupled", "l2"])
def test_clipping_is_pytorchs(torch: Any, limit: float, mode: str) -> None:
    """The norm is that of all gradients together, before the decay is added."""

    class Clipped(torch.optim.SGD):  # type: ignore[misc, name-defined]
        def step(self, closure: Any = None) -> None:
            torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], limit)
            super().step(closure)

    l2 = DECAY if mode == "l2" else 0.0
    expected = theirs(
        torch,
        lambda params: Clipped([*params.values()], lr=RATE, momentum=0.9, weight_decay=l2),
        0.0 if l2 else DECAY,
    )
    agree(ours("sgd", {}, DECAY, mode, clip_norm=limit), expected)
    norms = [sum((each**2).sum() for each in grads.values()) ** 0.5 for grads in GRADS]
    assert min(norms) < 30 < max(norms)


# Lion


@pytest.mark.parametrize("mode", ["decoupled", "l2"])
@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.99), (0.5, 0.8)])
def test_lion_is_that_of_its_paper(b1: float, b2: float, mode: str) -> None:
    """Chen et al., 2023, program 1: update = sign(β₁ m + (1 - β₁) g), then m = β₂ m + (1 - β₂) g."""
    expected = []
    params = {key: value.copy() for key, value in START.items()}
    moments = {key: np.zeros_like(value) for key, value in START.items()}
    for grads in GRADS:
        for key, param in params.items():
            grad = grads[key] + (DECAY * param if mode == "l2" else 0)
            update = np.sign(b1 * moments[key] + (1 - b1) * grad)
            moments[key] = b2 * moments[key] + (1 - b2) * grad
            params[key] = param - RATE * (update + (DECAY * param if mode == "decoupled" else 0))
        expected.append({key: value.copy() for key, value in params.items()})
    agree(ours("lion", {"b1": b1, "b2": b2}, DECAY, mode), expected)


# Muon


def newton_schulz(matrix: np.ndarray[Any, Any], iterations: int) -> np.ndarray[Any, Any]:
    """Jordan et al., 2024: ``X = aX + b(XXᵀ)X + c(XXᵀ)²X`` from G over its Frobenius norm, outputs first."""
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(iterations):
        squared = x @ x.T
        x = 3.4445 * x - 4.7750 * squared @ x + 2.0315 * squared @ squared @ x
    return x


def muon_of_numpy(momentum: float, nesterov: bool, iterations: int = 5) -> list[Arrays]:
    """The weights; outputs by inputs, as Jordan's program has them."""
    kept = {key: value for key, value in START.items() if value.ndim >= 2}
    buffers = {key: np.zeros_like(value) for key, value in kept.items()}
    history = []
    for grads in GRADS:
        for key, param in kept.items():
            buffers[key] = momentum * buffers[key] + grads[key]
            direction = grads[key] + momentum * buffers[key] if nesterov else buffers[key]
            matrix = direction.reshape(-1, param.shape[-1]).T
            scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            update = (newton_schulz(matrix, iterations) * scale).T.reshape(param.shape)
            kept[key] = param - RATE * update
        history.append(dict(kept))
    return history


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.95, 0.5, 0.0])
def test_muon_is_that_of_its_authors(momentum: float, nesterov: bool) -> None:
    found = ours("muon", {"momentum": momentum, "nesterov": nesterov})
    agree(found, muon_of_numpy(momentum, nesterov), 1e-9)
    adam = ours("adam", {})
    for a, b in zip(found, adam, strict=True):
        np.testing.assert_allclose(a["bias"], b["bias"], rtol=1e-12)


@pytest.mark.parametrize("shape", ["wide", "tall"])
def test_muon_is_pytorchs_up_to_its_bfloat16(torch: Any, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the iteration of ``torch.optim.Muon`` in float64, every step agrees; in bfloat16, to its rounding.

    PyTorch's matrices are outputs by inputs, Flax's the other way round.
    """

    def trained() -> Any:
        start = START["kernel"].T if shape == "wide" else START["kernel"]
        weight = torch.tensor(start, requires_grad=True)
        optimizer = torch.optim.Muon([weight], lr=RATE, weight_decay=DECAY)
        for grads in GRADS:
            weight.grad = torch.tensor(grads["kernel"].T if shape == "wide" else grads["kernel"])
            optimizer.step()
        return weight.detach().numpy()

    with jax.enable_x64(True):
        tx = make_optimizer("muon", RATE, DECAY)
        params = jnp.asarray(START["kernel"] if shape == "wide" else START["kernel"].T)
        state = tx.init(params)
        for grads in GRADS:
            grad = jnp.asarray(grads["kernel"] if shape == "wide" else grads["kernel"].T)
            updates, state = tx.update(grad, state, params)
            params = params + updates
    np.testing.assert_allclose(np.asarray(params).T, trained(), atol=0.03 * RATE * STEPS)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    np.testing.assert_allclose(np.asarray(params).T, trained(), rtol=1e-6, atol=1e-9)


def test_muon_makes_singular_values_alike() -> None:
    """0.7 to 1.2, of anything down to a hundredth of the norm; singular vectors stay."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(12, 5)))
    right, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    matrix = left * np.array([1.0, 0.5, 0.2, 0.05, 0.02]) @ right.T
    for each in (matrix, matrix.T):
        found = np.asarray(orthogonalized(jnp.asarray(each, jnp.float32), 5))
        values = np.linalg.svd(found, compute_uv=False)
        assert values.min() > 0.6
        assert values.max() < 1.25
    inner = left.T @ np.asarray(orthogonalized(jnp.asarray(matrix, jnp.float32), 5)) @ right
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-4)


# Arguments as arrays

ARRAYS: list[tuple[str, dict[str, float], dict[str, Any]]] = [
    ("sgd", {"momentum": 0.9}, {}),
    ("sgd", {"momentum": 0.7}, {"nesterov": True}),
    ("adam", {"b1": 0.9, "b2": 0.999, "eps": 1e-8}, {}),
    ("adam", {"b1": 0.3, "b2": 0.7, "eps": 1e-3}, {}),
    ("adamw", {"b1": 0.9, "b2": 0.95, "eps": 1e-8}, {}),
    ("rmsprop", {"decay": 0.99, "eps": 1e-8}, {}),
    ("rmsprop", {"decay": 0.9, "eps": 1e-6, "momentum": 0.6}, {}),
    ("lion", {"b1": 0.9, "b2": 0.99}, {}),
    ("muon", {"momentum": 0.95, "b1": 0.9, "b2": 0.999}, {}),
]


@pytest.mark.parametrize("case", ARRAYS, ids=lambda case: f"{case[0]}{[*case[1].values()]}")
def test_arrays_give_the_bits_of_constants(case: tuple[Any, ...]) -> None:
    """Inside a compiled step, in float32, as training uses them."""
    name, arguments, static = case
    constants = ours(name, arguments | static, DECAY, dtype=np.float32, jitted=True)
    arrays = {key: Coefficient.of(value) for key, value in arguments.items()} | static
    found = ours(name, arrays, DECAY, dtype=np.float32, jitted=True)
    for a, b in zip(found, constants, strict=True):
        for key, value in b.items():
            np.testing.assert_array_equal(a[key], value, err_msg=key)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "lion", "muon", "adamw"])
def test_in_float32_it_is_the_same_to_rounding(name: str) -> None:
    for a, b in zip(ours(name, {}, dtype=np.float32), ours(name, {}), strict=True):
        for key in START:
            np.testing.assert_allclose(a[key], b[key], rtol=1e-3, atol=1e-4)


def test_what_makes_no_optimizer_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dlbench_no_optimizers.py").write_text("def nothing(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="made a NoneType; expected an optax"):
        make_optimizer("dlbench_no_optimizers:nothing", 0.1, 0.0)
