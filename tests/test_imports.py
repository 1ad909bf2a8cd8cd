"""Packages that are large and rarely needed are imported only where they are used, in parent and worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL

from dlbench.cli.options import FLAGS

HEAVY = ("tensorflow_datasets", "tensorflow", "sklearn", "torch")


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    """A folder with packages that stand in for the heavy ones and, when imported, leave a file of their name.

    Each process that is started with it in PYTHONPATH is watched, workers included.
    """
    for name in HEAVY:
        folder = tmp_path / "packages" / name
        folder.mkdir(parents=True)
        marker = tmp_path / "imported" / name
        (folder / "__init__.py").write_text(
            f"open({str(marker)!r}, 'w').close()\nraise ImportError({name!r})\n"
        )
    (tmp_path / "imported").mkdir()
    return tmp_path


def call(folder: Path, *args: str) -> list[str]:
    """Run Python with the stand-ins first on its path, and return the names of those that were imported."""
    path = os.pathsep.join([str(folder / "packages"), *sys.path])
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return sorted(marker.name for marker in (folder / "imported").iterdir())


def test_the_stand_ins_are_found(imports: Path) -> None:
    code = "\n".join(f"try: import {name}\nexcept ImportError: pass" for name in HEAVY)
    assert call(imports, "-c", code) == sorted(HEAVY)


def test_heavy_packages_are_not_imported_to_train_and_show_a_built_in_data_set(imports: Path) -> None:
    flags = [f"{FLAGS[name]}={value}" for name, value in SMALL.items()]
    train = [
        "grid",
        "--model=linear",
        "--dataset=mnist5k",
        "--seeds=2",
        "--workers=1",
        "--name=s",
        "--quiet",
        *flags,
    ]
    assert call(imports, "-m", "dlbench", *train) == []
    assert call(imports, "-m", "dlbench", "results", "s") == []
    assert (
        call(
            imports,
            "-c",
            "import dlbench.execution.worker, dlbench.data, dlbench.stats, dlbench.storage.tensorboard",
        )
        == []
    )


def test_a_worker_imports_nnx_only_for_a_model_that_is_one(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from flax import nnx\n"
        "class Net(nnx.Module):\n"
        "    def __init__(self, num_classes, *, rngs):\n"
        "        self.layer = nnx.Linear(784, num_classes, rngs=rngs)\n"
        "    def __call__(self, images):\n"
        "        return self.layer(images.reshape(len(images), -1))\n"
    )
    code = (
        "import sys, dlbench.execution.worker\n"
        "from dlbench.models import creation, network\n"
        "network.network_of(creation.create('Baseline'))\n"
        "assert 'flax.nnx' not in sys.modules\n"
        "import dlbench\n"
        "made = network.network_of(creation.create('own:Net'))\n"
        "print(type(made).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "NnxNetwork", done.stderr
