"""Reports that a page keeps folded, as texts beside an exported study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.errors import StoreError
from dlbench.report.tables import Column, Points, Report, Table

FOLDED_FILE = "diagnosis.json"
#: Bytes of the file, at most.
_LONGEST = 2**26


def to_text(folded: Mapping[str, Report]) -> str:
    """Reports by title as JSON, the cells of tables as they are shown."""
    records = {title: [_record(part) for part in parts] for title, parts in folded.items()}
    return json.dumps(records, indent=1, ensure_ascii=False) + "\n"


def _record(part: Any) -> Any:
    if isinstance(part, Table):
        columns = [[column.title, column.left] for column in part.columns]
        return {"title": part.title, "caption": part.caption, "columns": columns, "rows": part.texts()}
    return {"lead": part.lead, "points": list(part.points)} if isinstance(part, Points) else part


def read_folded(folder: Path) -> dict[str, Report]:
    """The folded reports of an exported study by title; none if there is no file.

    Raises:
        StoreError: the file is damaged.
    """
    path = folder / FOLDED_FILE
    if not path.is_file():
        return {}
    try:
        records = json.loads(files.read(path, _LONGEST))
        return {str(title): [_part(part) for part in parts] for title, parts in records.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise StoreError(f"{path} is damaged: it holds no reports by title; remove it") from None


def _part(record: str | Mapping[str, Any]) -> Table | Points | str:
    if isinstance(record, str):
        return record
    if "lead" in record:
        return Points(str(record["lead"]), tuple(map(str, record["points"])))
    columns = tuple(
        Column(str(place), str(title), str, bool(left))
        for place, (title, left) in enumerate(record["columns"])
    )
    rows = tuple(tuple(map(str, row)) for row in record["rows"])
    if any(len(row) != len(columns) for row in rows):
        raise ValueError("a row is torn")
    return Table(str(record["title"]), columns, rows, str(record["caption"]))
