"""What can be named: ``dlbench list``, ranges of arguments, and parts that are given themselves."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import forked
import jax
import pytest

import dlbench
from dlbench.errors import InputError, UnknownNameError
from dlbench.execution import devices
from dlbench.report import catalog
from dlbench.spec import ranges
from dlbench.spec.designs import expand

SMALL: dict[str, Any] = {"train_size": 72, "val_size": 32, "batch_size": 16, "num_epochs": 1, "split_seed": 0}


def listed(kind: str) -> list[dict[str, Any]]:
    done = forked.run("list", kind, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)[kind]
    return found


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_everything_listed_can_be_named(kind: str) -> None:
    rows = [row for row in catalog.listing(kind) if not row["description"].startswith("your own")]
    assert all(row["name"] and row["description"] for row in rows)
    assert len({row["name"] for row in rows}) == len(rows) > 1
    if kind in catalog.REGISTRIES:
        registry = catalog.REGISTRIES[kind]
        names = [row["name"] for row in rows if row["name"].startswith(registry.prefix)]
        assert [registry.resolve(name) for name in names] == names


def test_the_command_prints_arguments_with_defaults_and_ranges() -> None:
    (sgd,) = (row for row in listed("optimizers") if row["name"] == "sgd")
    momentum = {
        "name": "momentum",
        "default": 0.9,
        "range": "at least 0 and less than 1",
        "shares_a_program": True,
    }
    assert momentum in sgd["arguments"]
    table = forked.run("list", "schedules").stdout
    assert "warmup=0*" in table


def test_an_unknown_kind_suggests_one() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'models'"):
        catalog.listing("model")


@pytest.mark.parametrize(
    ("values", "inside", "outside", "words"),
    [
        ("[0, 1)", [0, 0.5], [1, -0.1], "at least 0 and less than 1"),
        ("(0, inf)", [1e-9, 1e9], [0, -1], "greater than 0"),
        ("[1, 4]", [1, 4], [0, 5], "at least 1 and at most 4"),
        ("step|epoch", ["step"], ["steps", "step|epoch"], "step or epoch"),
        ("11|13|16", [11, 16], [12], "11, 13 or 16"),
    ],
)
def test_ranges(values: str, inside: list[Any], outside: list[Any], words: str) -> None:
    assert all(ranges.contains(values, each) for each in inside)
    assert not any(ranges.contains(values, each) for each in outside)
    assert ranges.in_words(values) == words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"optimizer": "sgd(momentum=1.0)"},
            "momentum of the optimizer sgd must be at least 0 and less than 1",
        ),
        ({"schedule.per": ["day"], "schedule": "cosine"}, "per of the schedule cosine must be step or epoch"),
        ({"model": "vgg(depth=12)"}, "depth of the model VGG must be 11, 13, 16 or 19"),
        ({"transform": "flip(probability=2)"}, "flip.probability of the transform flip must be at least 0"),
    ],
)
def test_values_out_of_range_are_refused_when_planned(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        dlbench.grid(**given)


# The number of lanes


def lanes_of(device: str, asked: int | str = "auto", **fields: Any) -> int:
    (spec,) = expand(fields).trials
    return devices.lanes(asked, device)(spec)


def test_lanes_depend_on_the_device_and_on_what_a_step_costs() -> None:
    assert lanes_of("cpu") == 1
    assert lanes_of("gpu", batch_size=8) == devices.MOST_LANES
    costly = [lanes_of("gpu", model="SimpleCNN", batch_size=size) for size in (8, 64, 512)]
    assert costly == sorted(costly, reverse=True)
    assert costly[-1] == 1
    assert all(lanes & (lanes - 1) == 0 for lanes in costly)
    assert lanes_of("gpu", asked=7) == 7


def test_arguments_that_share_a_program_share_its_lanes() -> None:
    rates = [lanes_of("gpu", model=f"Stabilized(dropout_rate={rate})", batch_size=64) for rate in (0.1, 0.3)]
    assert rates[0] == rates[1]


# Parts that are given themselves


class Net(nn.Module):
    """A small model, of which instances are given too."""

    num_classes: int = 10
    width: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes)(x)


def layers(width: int = 4) -> nn.Module:
    return nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(width), nn.relu, nn.Dense(10)])


def closure(width: int) -> Any:
    def make(num_classes: int) -> nn.Module:
        return Net(num_classes, width)

    return make


def reference(model: Any) -> str:
    return dlbench.grid(model=[model]).trials[0].model


@pytest.mark.parametrize("make", [Net, layers, closure, lambda width: functools.partial(Net, width=width)])
def test_equal_objects_have_equal_references_and_others_have_others(make: Any) -> None:
    assert reference(make(width=4)) == reference(make(width=4))
    assert reference(make(width=4)) != reference(make(width=8))


def test_objects_train_in_this_process_like_the_model_that_they_are(tmp_path: Path) -> None:
    study = dlbench.grid(model=[Net, Net(10, 4), layers()], **SMALL)
    result = dlbench.run(study, out=tmp_path / "s")
    digests = [trial.best_params_sha256 for trial in result.complete]
    assert len(digests) == 3
    assert digests[0] == digests[1]
    loaded = result.trials[-1].load()
    assert loaded.test_accuracy() == result.trials[-1].test_accuracy
    with pytest.raises(InputError, match="this process alone"):
        dlbench.run(study, out=tmp_path / "other", workers=2)


def test_an_object_that_this_process_does_not_hold_is_asked_for() -> None:
    with pytest.raises(InputError, match="give it again"):
        dlbench.models.create("__held__:Net_0123456789ab")


@pytest.mark.parametrize("wrong", [3, None, [1], {"a": 1}, 0.5])
def test_what_is_no_model_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError):
        dlbench.grid(model=[wrong])
