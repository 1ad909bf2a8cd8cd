"""What is known of each picture in a folder: ``metadata.csv`` and the like, as Hugging Face's ImageFolder has them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.errors import DataError, InputError, StoreError

MISSING = "missing"
"""The slice of pictures of which a column says nothing."""

_KEY = "file_name"
#: Bytes of a file of metadata, at most.
_LONGEST = 2**28


def metadata_files(pictures: Iterable[Path], place: Path) -> dict[Path, Path]:
    """The files of metadata in the folders of pictures and in those above, by folder.

    Args:
        pictures: paths of pictures below ``place``.
        place: the uppermost folder.

    Raises:
        DataError: a folder has two.
    """
    folders = {above for folder in {each.parent for each in pictures} for above in _upwards(folder, place)}
    found = {}
    for folder in sorted(folders):
        here = [file for suffix in _READERS if (file := folder / f"metadata{suffix}").is_file()]
        if len(here) > 1:
            raise DataError(f"{folder} has {here[0].name} and {here[1].name}", remedy="remove one of them")
        if here:
            found[folder] = here[0]
    return found


def metadata_of(pictures: Sequence[Path], place: Path) -> dict[str, list[str]]:
    """The columns of the metadata of pictures that group them; none if there are no files of metadata.

    The file of a picture is that of the nearest folder above it. Columns are left out that hold lists or objects, such
    as bounding boxes, the same for all pictures, or something else for each, such as captions.

    Args:
        pictures: paths of pictures below ``place``.
        place: the uppermost folder.

    Returns:
        The cell of each picture by column, as text; :data:`MISSING` where it is empty.

    Raises:
        DataError: a file cannot be read, or a picture has no row.
        InputError: pyarrow is needed and not installed.
    """
    found = metadata_files(pictures, place)
    if not found:
        return {}
    tables = {folder: _table(file) for folder, file in found.items()}
    rows = []
    for picture in pictures:
        table = next((tables[each] for each in _upwards(picture.parent, place) if each in tables), {})
        rows.append(table.get(os.path.normpath(picture), {}))
    if absent := [picture for picture, row in zip(pictures, rows, strict=True) if not row]:
        raise DataError(
            f"{absent[0]} has no row in a file of metadata, as {len(absent):,} of {len(pictures):,} test pictures",
            remedy=f"give each test picture a row, with its path from the folder of that file as {_KEY}; other cells "
            "may be empty",
        )
    made = {}
    for column in dict.fromkeys(key for row in rows for key in row if key not in ("", _KEY)):
        cells = [row.get(column) for row in rows]
        text = [_text(cell) for cell in cells]
        is_plain = not any(isinstance(each, list | dict | bytes) for each in cells)
        if is_plain and 1 < len({*text}) < len(text):
            made[column] = text
    return made


def missing_pictures(pictures: Iterable[Path], place: Path) -> dict[Path, str]:
    """Pictures that files of metadata name and that do not exist, with why they cannot be read.

    Args:
        pictures: paths of pictures below ``place``.
        place: the uppermost folder.

    Raises:
        DataError: a file of metadata cannot be read.
    """
    return {
        Path(picture): f"is missing; {file} names it"
        for file in metadata_files(pictures, place).values()
        for picture in _table(file)
        if not os.path.exists(picture)
    }


def _upwards(folder: Path, place: Path) -> Iterator[Path]:
    """A folder and those above it, up to a place."""
    for above in (folder, *folder.parents):
        yield above
        if above == place:
            return


def _table(file: Path) -> dict[str, Mapping[str, Any]]:
    """The rows of a file by the path of their picture."""
    try:
        rows = _READERS[file.suffix](files.read(file, _LONGEST))
    except (OSError, ValueError, NotImplementedError, RecursionError, StoreError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    except ImportError:
        raise InputError(f"{file} needs pyarrow", remedy="run pip install pyarrow") from None
    found: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        name = row.get(_KEY) if isinstance(row, Mapping) else None
        if not name or not isinstance(name, str):
            raise DataError(
                f"row {number} of {file} has no {_KEY}",
                remedy="name the picture of each row in this column, or rename the file if it holds something else",
            )
        if found.setdefault(os.path.normpath(file.parent / name), row) is not row:
            raise DataError(
                f"row {number} of {file} is about {name} again", remedy="leave one row per picture"
            )
    return found


def _text(cell: Any) -> str:
    return (str(cell).strip() if cell is not None and cell == cell else "") or MISSING


def _csv(content: bytes) -> list[Any]:
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    rows = [*reader]
    if number := next((number for number, row in enumerate(rows, 1) if None in row), 0):
        raise ValueError(f"row {number} has more cells than there are columns")
    return rows


def _jsonl(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.decode("utf-8-sig").split("\n") if line.strip()]


def _parquet(content: bytes) -> list[Any]:
    from pyarrow import parquet

    rows: list[Any] = parquet.read_table(io.BytesIO(content)).to_pylist()
    return rows


_READERS: Mapping[str, Callable[[bytes], list[Any]]] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
