"""Public names are frozen: what 0.1.0 offered is still there. New names may be added to what the table lists."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import forked
import pytest

import dlbench
from dlbench import report
from dlbench.records import OUTCOME_FIELDS
from dlbench.spec import config
from dlbench.spec.metrics import KNOWN_METRICS
from dlbench.studies.options import RunSettings

FROZEN: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "public-0.1.0.json").read_text())


def missing(names: list[str], found: object) -> set[str]:
    return set(names) - set(found)  # type: ignore[call-overload]


def test_what_is_imported_from_dlbench() -> None:
    assert not missing(FROZEN["__all__"], dlbench.__all__)


@pytest.mark.parametrize("module", ["data", "models", "ops", "stats"])
def test_what_its_modules_offer(module: str) -> None:
    assert [name for name in FROZEN[module] if not hasattr(getattr(dlbench, module), name)] == []


@pytest.fixture(scope="module")
def compared(small_result: dlbench.StudyResult) -> dlbench.StudyResult:
    spec = small_result.spec.model_copy(update={"design": "comparison"})
    return dlbench.StudyResult(spec, small_result.trials, small_result.folder)


def test_keys_of_json_and_columns_of_csv(compared: dlbench.StudyResult) -> None:
    record = report.study_record(compared)
    trial = record["trials"][0]
    comparison = record["comparison"]
    found = {
        "study": record["study"],
        "trial": trial,
        "epoch": trial["history"][0],
        "comparison": comparison,
        "ranking": comparison["ranking"][0],
        "difference": comparison["differences"][0],
        "plan": report.plan_record(dlbench.plan(compared.spec, out=compared.folder)),
        "manifest": json.loads((compared.folder / "manifest.json").read_text()),
    }
    assert {name: missing(keys, found[name]) for name, keys in FROZEN["json"].items()} == {
        name: set() for name in FROZEN["json"]
    }
    columns = report.records_table(compared.trials).to_csv().split("\n")[0].split(",")
    assert not missing(FROZEN["csv"], columns)


def test_keys_of_yaml() -> None:
    assert not missing(FROZEN["yaml"]["study"], config._KEYS)
    assert not missing(FROZEN["yaml"]["claim"], config._CLAIM_KEYS)
    assert not missing(FROZEN["yaml"]["figures"], KNOWN_METRICS)


def test_attributes_of_results(small_result: dlbench.StudyResult) -> None:
    trial = small_result.trials[0]
    assert [
        name for name in (*dlbench.TrialSpec.model_fields, *OUTCOME_FIELDS) if not hasattr(trial, name)
    ] == []
    assert [name for name in FROZEN["trial_attributes"] if not hasattr(trial, name)] == []
    assert [name for name in FROZEN["study_attributes"] if not hasattr(small_result, name)] == []


@pytest.mark.parametrize("name", FROZEN["parameters"])
def test_parameters(name: str) -> None:
    taken = [*inspect.signature(getattr(dlbench, name)).parameters]
    if name in ("run", "plan", "run_until_separated"):
        taken += RunSettings.__annotations__
    assert not missing(FROZEN["parameters"][name], taken)


@pytest.mark.parametrize("command", FROZEN["flags"])
def test_flags(command: str) -> None:
    done = forked.run(command, "--help")
    assert not missing(FROZEN["flags"][command], re.findall(r"(?<![-\w])(--[a-z][a-z-]*)", done.stdout))
