"""Golden digests: the bits of a handful of trials, in the environments where they were recorded.

``python tests/test_goldens.py`` trains them here and writes their digests into the table.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from conftest import SMALL

import dlbench
from dlbench.ops import native
from dlbench.storage import manifest

TABLE = Path(__file__).parent / "data" / "goldens.json"
TRIALS = {
    "SimpleCNN, SGD": {"model": "SimpleCNN", "optimizer": "sgd"},
    "Baseline, Adam": {"model": "Baseline", "learning_rate": 1e-2},
    "Stabilized, SGD with decoupled decay": {"model": "Stabilized", "optimizer": "sgd", "weight_decay": 1e-2},
    "High-Vision, Adam with L2, written-out criterion": {
        "model": "High-Vision",
        "weight_decay": 1e-3,
        "decay_mode": "l2",
        "criterion": "manual",
    },
    "Modernist, augmented": {"model": "Modernist", "transform": "augmented", "seed": 3},
}
LEGITIMATE = (
    "The bits of a trial have changed where nothing of the environment has. That is legitimate only if the change "
    "is meant to alter numbers (another lowering, another order of a sum): then raise NUMERICS_VERSION in "
    "dlbench/spec.py, so that nobody takes old results for new ones, run `python tests/test_goldens.py`, and say "
    "why in the commit. Otherwise it is a defect."
)


def environment() -> str:
    """What bits depend on besides the code: the compiler, and the processor that it compiles for."""
    found = manifest.environment()
    cpu = found["cpu"]
    processor = "/".join(cpu.get(name, "?") for name in ("vendor_id", "cpu family", "model"))
    kernels = "compiled kernels" if native.chosen() else "no kernels"
    packages = f"jaxlib {found['packages']['jaxlib']}, numpy {found['packages']['numpy']}"
    return f"{packages}, {found['machine']} {processor}, {kernels}"


def train(folder: Path) -> dict[str, list[str]]:
    trials = [
        trial for fields in TRIALS.values() for trial in dlbench.grid(split_seed=0, **SMALL | fields).trials
    ]
    result = dlbench.run(dlbench.StudySpec(trials=tuple(trials)), out=folder)
    return {
        name: [trial.id, trial.params_sha256, trial.history_sha256]
        for name, trial in zip(TRIALS, result, strict=True)
    }


def test_the_bits_are_the_recorded_ones(tmp_path: Path) -> None:
    table = json.loads(TABLE.read_text())
    if environment() not in table:
        pytest.skip(f"no golden digests for {environment()}; `python tests/test_goldens.py` records them")
    assert train(tmp_path / "s") == table[environment()], LEGITIMATE


if __name__ == "__main__":
    here = environment()  # chooses the kernels, once, for the workers too
    with tempfile.TemporaryDirectory() as place:
        digests = train(Path(place) / "s")
    TABLE.parent.mkdir(exist_ok=True)
    known = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    TABLE.write_text(json.dumps(known | {here: digests}, indent=2, sort_keys=True) + "\n")
    print(f"{TABLE}: {here}")
