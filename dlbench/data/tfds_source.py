"""Public data sets by way of TensorFlow Datasets (TFDS), run in a process of its own.

This side imports neither TFDS nor anything it needs. It looks at what lies in the folder, finds out within
seconds whether a download could succeed, starts `tfds_prepare`, and takes over the arrays it leaves.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np

from dlbench import files
from dlbench.data.arrays import ARRAY_FIELDS, DIGEST_PREFIX, Dataset, from_arrays
from dlbench.data.catalog import IDX_FILES, PublicSet
from dlbench.errors import DataError, Field, StoreError
from dlbench.files import cache_root

ORIGIN = "tfds"
BUILDER, BUILDER_VERSION = "dlbench_images", "1.0.0"
"""Name and version of our builder in `tfds_prepare`, and so of its folder."""

CHILD = (sys.executable, "-P", "-m", "dlbench.data.tfds_prepare")
"""The command that prepares a data set; `read` adds the arguments."""

_PROBE_S = 6.0
#: Bytes of TFDS's notes that are read here, at most.
_LONGEST = 2**26


def read(known: PublicSet, data_dir: Path | None) -> Dataset:
    """Download (where necessary), prepare and read a public data set.

    Args:
        known: the data set.
        data_dir: the user's data folder; TFDS's own folder is ``tfds`` below it, or below the cache.

    Raises:
        DataError: the original files are neither here nor to be downloaded, or are not the originals.
    """
    folder = tfds_folder(data_dir)
    prepared = _prepared_by_others(known, data_dir, folder)
    if prepared is None and not (folder / BUILDER / known.name / BUILDER_VERSION).is_dir():
        absent = _absent_files(known, folder)
        problem = _probe(urllib.parse.urljoin(known.url, absent[0])) if absent else None
        if problem:
            raise _offline(known, data_dir, folder, absent, problem)
    with tempfile.TemporaryDirectory(prefix="dlbench-") as out:
        _run_child(known, folder, Path(out), prepared)
        dataset = from_arrays(
            known.name,
            **{key: np.load(Path(out) / f"{key}.npy", allow_pickle=False) for key in ARRAY_FIELDS},
            num_classes=known.num_classes,
            class_names=known.class_names,
            source=f"TFDS in {prepared or folder}",
        )
    if known.digest and dataset.digest != known.digest:
        raise DataError(
            f"data set {known.name!r}: the copy in {prepared or folder} has digest "
            f"{dataset.digest[:DIGEST_PREFIX]}, the original {known.digest[:DIGEST_PREFIX]}. Delete it there."
        )
    return dataset


def tfds_folder(data_dir: Path | None) -> Path:
    """TFDS's folder: below the data folder if that can be written, else below the cache."""
    if data_dir and ((data_dir / "tfds").is_dir() or os.access(data_dir, os.W_OK)):
        return data_dir / "tfds"
    return cache_root() / "tfds"


def manual_folder(known: PublicSet, folder: Path) -> Path:
    """Where a user may put original files: a folder of the data set's own, else one for all."""
    manual = folder / "downloads" / "manual"
    return manual / known.name if (manual / known.name).is_dir() else manual


def _prepared_by_others(known: PublicSet, data_dir: Path | None, folder: Path) -> Path | None:
    """The newest version of this data set that TFDS's own builder prepared as array_record."""
    for root in (data_dir, folder):
        for path in sorted((root / known.name).glob("*.*.*"), reverse=True) if root else []:
            try:
                described = json.loads(files.read(path / "dataset_info.json", _LONGEST))
                known_format = described.get("fileFormat")
            except (OSError, ValueError, AttributeError, RecursionError, StoreError):
                continue
            if known_format == "array_record":
                return path
    return None


def _absent_files(known: PublicSet, folder: Path) -> list[str]:
    """Original files neither put there by hand nor downloaded earlier."""
    manual = manual_folder(known, folder)
    downloaded = set()
    for note in (folder / "downloads").rglob("*.INFO"):
        try:
            urls = json.loads(files.read(note, _LONGEST)).get("urls", ())
        except (OSError, ValueError, AttributeError, RecursionError, StoreError):
            continue
        if note.with_suffix("").is_file():
            downloaded.update(urls)
    return [
        file
        for file in known.files
        if not (manual / file).is_file() and urllib.parse.urljoin(known.url, file) not in downloaded
    ]


def _probe(url: str) -> str | None:
    """Ask a server for a file's header, through the proxies that a download would use.

    Returns:
        None where the server answered, else the problem in words, after 6 seconds at most.
    """
    answer = [f"no answer within {_PROBE_S:.0f} s"]

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=_PROBE_S):
                answer[0] = ""
        except urllib.error.HTTPError as error:
            answer[0] = "" if error.code in (405, 501) else f"HTTP status {error.code}"
        except urllib.error.URLError as error:
            answer[0] = "" if isinstance(error.reason, ssl.SSLError) else str(error.reason)
        except OSError as error:
            answer[0] = str(error)

    # A thread, because looking up a host's name knows no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_S)
    return answer[0] or None


def _offline(
    known: PublicSet, data_dir: Path | None, folder: Path, absent: list[str], problem: str
) -> DataError:
    host = urllib.parse.urlsplit(known.url).hostname
    remedy: list[str] = ["connect to the network, or "]
    if known.idx_folders:
        place = (data_dir or Path("DATA_DIR")) / known.idx_folders[0]
        remedy.append(f"put the IDX files {', '.join(IDX_FILES.values())} (plain or .gz) into {place}")
        if not data_dir:
            remedy += [", DATA_DIR being your data folder (", Field("data_dir"), " or DLBENCH_DATA_DIR)"]
        remedy.append("; or ")
    remedy.append(f"put the original {', '.join(absent)} into {manual_folder(known, folder)}")
    return DataError(
        f"data set {known.name!r} is not here and cannot be downloaded from {host} ({problem})",
        remedy=(*remedy, ". Data set 'mnist5k' needs no network"),
    )


def _run_child(known: PublicSet, folder: Path, out: Path, prepared: Path | None) -> None:
    package_folder = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (package_folder, os.environ.get("PYTHONPATH"))))
    command = [*CHILD, known.name, "--tfds-dir", str(folder), "--out", str(out)]
    if prepared:
        command += ["--prepared", str(prepared)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths}
    )
    if done.returncode:
        problem = done.stdout.decode(errors="replace").strip()
        raise DataError(
            problem
            or f"data set {known.name!r}: TFDS ended with exit code {done.returncode}; see its "
            f"messages above. If they speak of damaged records, delete {prepared or folder / BUILDER}."
        )
