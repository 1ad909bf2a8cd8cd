"""Energy, carbon dioxide and price of a study, counted or estimated by stated rates. No jax."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlbench.errors import InputError, UnknownNameError

#: Watts of a busy core where no counter could be read: what codecarbon assumes of processors that it does not know.
WATTS_PER_CORE = 4.0
#: Grams of carbon dioxide equivalent per kilowatt hour, the mean of the world in 2018 (IEA, 2019).
WORLD_CARBON = 475.0
#: Joules of a kilowatt hour.
KWH_J = 3.6e6


@dataclass(frozen=True)
class Power:
    """The mean power of a worker.

    Attributes:
        watts: of one worker; ``None`` where it is not known.
        counters: the counters that it was measured with, "rapl" and "nvml"; empty where it is an assumption.
        assumption: what is assumed, in words; empty where it was measured.
    """

    watts: float | None
    counters: tuple[str, ...] = ()
    assumption: str = ""

    def energy_j(self, worker_s: float) -> float | None:
        """The energy of so many seconds of a worker, in joules."""
        return None if self.watts is None else self.watts * worker_s


@dataclass(frozen=True)
class Rates:
    """By what carbon dioxide and price are computed.

    Attributes:
        watts: power of one worker that is assumed, counters or not; ``None`` for what they count.
        carbon: grams of carbon dioxide equivalent per kilowatt hour.
        origin: where that number holds, in words.
        price: of an hour of one worker, in any currency; ``None`` for no price.
    """

    watts: float | None = None
    carbon: float = WORLD_CARBON
    origin: str = "the mean of the world (IEA, 2019)"
    price: float | None = None

    def carbon_of(self, energy_j: float | None) -> float | None:
        """Grams of carbon dioxide equivalent of an energy in joules."""
        return None if energy_j is None else energy_j / KWH_J * self.carbon

    def price_of(self, worker_s: float) -> float | None:
        """The price of so many seconds of a worker."""
        return None if self.price is None else worker_s / 3600 * self.price


#: The power of a worker of which nothing is known, and the rates where none are stated.
UNKNOWN, DEFAULT = Power(None), Rates()


def power_of(energy: Mapping[str, float], rates: Rates, device: str | None, cores: int = 1) -> Power:
    """The power of a worker of a study.

    Args:
        energy: what was counted while it was trained (:attr:`dlbench.storage.results.StudyRecord.energy`). A counter
            counts all that runs on the machine.
        rates: a power that is assumed instead.
        device: the kind of device that trained it; ``None`` if it was not recorded.
        cores: cores of one worker.
    """
    if rates.watts is not None:
        return Power(rates.watts, assumption=f"{rates.watts:g} W for each worker, as stated")
    counted = {kind: joules for kind, joules in energy.items() if kind != "seconds" and joules > 0}
    needed = {"nvml"} if device == "gpu" else {"rapl"}
    if needed <= counted.keys() and energy.get("seconds"):
        return Power(sum(counted.values()) / energy["seconds"], tuple(sorted(counted)))
    if device not in ("cpu", None):
        return Power(None, assumption=f"no counter of a {device} was read, and no power is stated")
    watts = WATTS_PER_CORE * cores
    return Power(watts, assumption=f"{watts:g} W for each worker, {WATTS_PER_CORE:g} W per busy core")


def country_rates(code: str) -> tuple[float, str]:
    """The carbon intensity of a country's electricity in grams per kilowatt hour, and its name, from codecarbon.

    Args:
        code: its code of three letters (ISO 3166), such as "DEU".

    Raises:
        InputError: codecarbon is not installed.
        UnknownNameError: there is no such country.
    """
    if importlib.util.find_spec("codecarbon") is None:
        raise InputError(
            "the electricity of a country is looked up in codecarbon, which is not installed",
            field="country",
            value=code,
            remedy="run pip install 'dlbench[energy]', or state the grams per kilowatt hour",
        )
    from codecarbon.input import DataSource

    source: Any = DataSource
    countries = source().get_global_energy_mix_data()
    if code.upper() not in countries:
        raise UnknownNameError("country", code, sorted(countries), field="country")
    found = countries[code.upper()]
    return float(found["carbon_intensity"]), f"{found['country_name']} in {found['year']} (codecarbon)"
