"""Where to train, as far as a machine without an accelerator can tell."""

from __future__ import annotations

import pytest

from dlbench.execution import devices


def test_the_gpus_are_those_that_the_environment_leaves_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert devices.gpus() == ["2", "5"]
    assert devices.count("gpu") == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.gpus() == []
