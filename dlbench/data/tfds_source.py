"""Public data sets from TensorFlow Datasets (TFDS), which runs in a separate process.

This module imports neither TFDS nor its dependencies. It checks which files are there and, within seconds, whether a
download can succeed, then starts `tfds_prepare` and reads the arrays that it writes.
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
from dlbench.data.catalog import PublicSet
from dlbench.errors import DataError, Field, StoreError
from dlbench.files import cache_root

ORIGIN = "tfds"
BUILDER, BUILDER_VERSION = "dlbench_images", "1.0.0"
"""Name and version of the builder in `tfds_prepare`, and of its folder."""

CHILD = (sys.executable, "-P", "-m", "dlbench.data.tfds_prepare")
"""The command that prepares a data set; `read` adds the arguments."""

_PROBE_S = 6.0
#: Bytes of TFDS's notes that are read here, at most.
_LONGEST = 2**26


def read(known: PublicSet, data_dir: Path | None) -> Dataset:
    """Download (if necessary), prepare and read a public data set.

    Args:
        known: the data set.
        data_dir: the user's data folder; TFDS uses the folder ``tfds`` in it, or in the cache.

    Raises:
        DataError: the files are missing and cannot be downloaded, or are not the original ones.
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
            f"{dataset.digest[:DIGEST_PREFIX]}, expected {known.digest[:DIGEST_PREFIX]}. Delete it there."
        )
    return dataset


def tfds_folder(data_dir: Path | None) -> Path:
    """The folder of TFDS: in the data folder if that is writable, else in the cache."""
    if data_dir and ((data_dir / "tfds").is_dir() or os.access(data_dir, os.W_OK)):
        return data_dir / "tfds"
    return cache_root() / "tfds"


def manual_folder(known: PublicSet, folder: Path) -> Path:
    """The folder for files that the user has downloaded: one for the data set if it exists, else one for all."""
    manual = folder / "downloads" / "manual"
    return manual / known.name if (manual / known.name).is_dir() else manual


def _prepared_by_others(known: PublicSet, data_dir: Path | None, folder: Path) -> Path | None:
    """The newest version of this data set that was prepared by TFDS's own builder, as array_record."""
    for root in (data_dir, folder):
        for path in (
            sorted((root / (known.tfds_name or known.name)).glob("*.*.*"), reverse=True) if root else []
        ):
            try:
                described = json.loads(files.read(path / "dataset_info.json", _LONGEST))
                known_format = described.get("fileFormat")
            except (OSError, ValueError, AttributeError, RecursionError, StoreError):
                continue
            if known_format == "array_record":
                return path
    return None


def _absent_files(known: PublicSet, folder: Path) -> list[str]:
    """The original files that were neither put there by the user nor downloaded earlier."""
    manual = manual_folder(known, folder)
    downloaded = set()
    for info in (folder / "downloads").rglob("*.INFO"):
        try:
            urls = json.loads(files.read(info, _LONGEST)).get("urls", ())
        except (OSError, ValueError, AttributeError, RecursionError, StoreError):
            continue
        if info.with_suffix("").is_file():
            downloaded.update(urls)
    return [
        file
        for file in known.files
        if not (manual / file).is_file() and urllib.parse.urljoin(known.url, file) not in downloaded
    ]


def _probe(url: str) -> str | None:
    """Request the header of a file, through the proxies that a download would use.

    Returns:
        None if the server answers, else the problem in words, after at most 6 seconds.
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

    # In a thread, because there is no timeout for resolving a host name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_S)
    return answer[0] or None


def _offline(
    known: PublicSet, data_dir: Path | None, folder: Path, absent: list[str], problem: str
) -> DataError:
    host = urllib.parse.urlsplit(known.url).hostname
    remedy: list[str] = ["connect to the network, or "]
    if known.format == "idx":
        place = (data_dir or Path("DATA_DIR")) / known.folders[0]
        remedy.append(f"put the IDX files {', '.join(known.idx_files.values())} (plain or .gz) into {place}")
        if not data_dir:
            remedy += [", where DATA_DIR is your data folder (", Field("data_dir"), " or DLBENCH_DATA_DIR)"]
        remedy.append("; or ")
    remedy.append(f"put the original {', '.join(absent)} into {manual_folder(known, folder)}")
    return DataError(
        f"data set {known.name!r} is missing and cannot be downloaded from {host} ({problem})",
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
            f"messages above. If they mention damaged records, delete {prepared or folder / BUILDER}."
        )
