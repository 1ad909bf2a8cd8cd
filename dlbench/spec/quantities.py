"""Numbers with units, as text: "2GiB", "5ms"."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dlbench.errors import InputError

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


def quantity(field: str, text: object, units: Mapping[str, float]) -> float:
    """A number with its unit, in the base unit.

    Args:
        field: what it is, for errors.
        text: a number and a unit, such as "2GiB".
        units: the units, in the base unit.

    Raises:
        InputError: it is written in another form.
    """
    found = (
        re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)", text.strip()) if isinstance(text, str) else None
    )
    if found is None or found[2] not in units:
        raise InputError.must_be(field, f"a number with one of the units {', '.join(units)}", text)
    return float(found[1]) * units[found[2]]
