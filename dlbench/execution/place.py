"""Where and how the trials of a study are trained. No jax."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlbench.execution.site import Here, Site


@dataclass(frozen=True)
class Place:
    """Where and how to train.

    Args:
        device: "cpu", "gpu", "tpu" or "metal".
        workers: number of processes; 0 trains in this one.
        data_dir: folder of the user's data sets.
        checkpoint_every: epochs between saved states of a trial; by default a state is saved once a minute.
        cores: number of cores that train one trial, on a CPU.
        keep_state: whether to keep the state that each trial ends with.
        site: the machines.
        environment: the digest of the environment that workers must have; ``None`` if it may be any.
    """

    device: str
    workers: int
    data_dir: str | None = None
    checkpoint_every: int | None = None
    cores: int = 1
    keep_state: bool = False
    site: Site = field(default_factory=Here)
    environment: str | None = None
