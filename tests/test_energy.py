"""Energy from counters, or estimated; carbon dioxide and price by stated rates; against codecarbon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import Cli, cli  # noqa: F401

import dlbench
from dlbench.analysis.energy import DEFAULT, Power, Rates, country_rates, power_of
from dlbench.errors import UnknownNameError
from dlbench.execution.energy import Meter, counters
from dlbench.storage.store import Store


def write(root: Path, joules: dict[str, float], full_j: int = 1000) -> None:
    """Counters of RAPL as Linux shows them: two packages, the cores of one, and memory."""
    for name, place in {"package-0": "0", "core": "0:0", "dram": "0:1", "package-1": "1"}.items():
        folder = root / f"intel-rapl:{place}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{round(joules.get(name, 0) * 1e6)}\n")
        (folder / "max_energy_range_uj").write_text(f"{full_j * 1000000}\n")


def test_packages_and_memory_are_counted_and_begin_again(tmp_path: Path) -> None:
    write(tmp_path, {"package-0": 990, "core": 500, "dram": 3, "package-1": 10})
    found = counters("cpu", tmp_path)
    assert [counter.kind for counter in found] == ["rapl"] * 3
    meter = Meter(found, {"rapl": 100.0, "seconds": 5.0})
    write(tmp_path, {"package-0": 15, "core": 900, "dram": 5, "package-1": 30})  # the first was full at 1,000
    assert meter.total(8.0) == pytest.approx({"rapl": 100 + 25 + 2 + 20, "seconds": 13})
    write(tmp_path, {"package-0": 16, "dram": 5, "package-1": 30})
    assert meter.total(9.0) == pytest.approx({"rapl": 148, "seconds": 14})


def test_counters_that_cannot_be_read_count_nothing(tmp_path: Path) -> None:
    write(tmp_path, {})
    for path in tmp_path.glob("*/energy_uj"):
        path.unlink()
        path.mkdir()
    assert counters("cpu", tmp_path) == counters("cpu", tmp_path / "none") == []
    assert Meter([], {}).total(3.0) == {}


def test_what_was_counted_stays_in_the_study(tmp_path: Path) -> None:
    with Store(tmp_path, write=True, kind="grid") as store:
        assert store.energy() == {}
        store.set_spent({"train": 1.5}, {"rapl": 30.0, "seconds": 2.0})
    with Store(tmp_path) as store:
        assert store.energy() == {"rapl": 30.0, "seconds": 2.0}


def test_power_is_measured_or_marked_as_assumed() -> None:
    counted = {"rapl": 600.0, "seconds": 20.0}
    assert power_of(counted, DEFAULT, "cpu") == Power(30.0, ("rapl",))
    assert power_of(counted | {"nvml": 1400.0}, DEFAULT, "gpu") == Power(100.0, ("nvml", "rapl"))
    assert power_of(counted, DEFAULT, "gpu").watts is None  # the GPU's part is missing
    assert power_of({}, DEFAULT, "cpu").assumption == "4 W for each worker, 4 W per busy core"
    assert power_of(counted, Rates(watts=65), "cpu") == Power(
        65, assumption="65 W for each worker, as stated"
    )


def test_grams_and_price_by_hand() -> None:
    rates = Rates(carbon=400, price=0.5)
    assert rates.carbon_of(7.2e6) == pytest.approx(800)  # two kilowatt hours
    assert rates.price_of(1800) == pytest.approx(0.25)
    assert (DEFAULT.carbon_of(None), DEFAULT.price_of(10)) == (None, None)


@pytest.mark.slow
def test_the_grams_of_a_country_are_those_of_codecarbon() -> None:
    emissions = pytest.importorskip("codecarbon.core.emissions")
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    carbon, origin = country_rates("deu")
    assert origin.startswith("Germany in 20")
    place = GeoMetadata(country_iso_code="DEU", country_name="Germany")
    kilograms = emissions.Emissions(DataSource()).get_private_infra_emissions(
        Energy.from_energy(kWh=3), place
    )
    assert Rates(carbon=carbon).carbon_of(3 * 3.6e6) == pytest.approx(1000 * kilograms)
    with pytest.raises(UnknownNameError, match="XYZ"):
        country_rates("XYZ")


def test_the_command_says_what_is_assumed(small_result: dlbench.StudyResult, cli: Cli) -> None:  # noqa: F811
    show = ("diagnose", str(small_result.folder), "--show", "cost")
    record = json.loads(cli(*show, "--rate", "0.36", "--watts", "10", "--carbon", "100", "--json").out)[
        "cost"
    ]
    study = record["study"]
    assert study["worker_s"] == pytest.approx(sum(small_result.times.values()))
    assert study["energy_j"] == pytest.approx(10 * study["worker_s"])
    assert study["carbon_g"] == pytest.approx(study["energy_j"] / 36e3)
    assert study["price"] == pytest.approx(study["worker_s"] * 1e-4)
    assert not record["power"]["measured"]
    assert all(each["energy_j"] > 10 * each["train_s"] for each in record["configurations"])
    shown = cli(*show, "--watts", "10").out
    assert "Energy is estimated, not measured: it assumes 10 W for each worker, as stated." in shown
    assert "475 g per kWh, the mean of the world" in shown
    for flags, message in {
        ("--rate", "free"): "--rate must be a number above 0; got 'free'",
        ("--carbon", "0"): "--carbon must be a number above 0; got '0'",
        ("--carbon", "1", "--country", "DEU"): "give one of them",
    }.items():
        refused = cli(*show, *flags)
        assert (refused.code, message in refused.err) == (2, True), refused.err
