"""Prepare one data set with TensorFlow Datasets (TFDS) and write its arrays to a folder; run as a module.

TFDS's own builders of these data sets need TensorFlow for preparation. The builder in this module does not: its
features are plain tensors, and it decompresses the files itself. TFDS downloads, compares checksums, stores and reads.
On failure, one message is written to standard output; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import hashing

from dlbench.data.arrays import Dataset
from dlbench.data.catalog import PUBLIC_SETS, PublicSet
from dlbench.data.public import READERS
from dlbench.data.tfds_source import BUILDER, BUILDER_VERSION, manual_folder
from dlbench.errors import DataError
from dlbench.spec.registry import DATASETS


@dataclass(eq=False)
class ImagesConfig(tfds.core.BuilderConfig):  # type: ignore[misc]
    """One public data set."""

    known: PublicSet | None = None


class DlbenchImages(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """Images and labels of public data sets in their original order."""

    name = BUILDER
    VERSION = tfds.core.Version(BUILDER_VERSION)
    BUILDER_CONFIGS = [ImagesConfig(name=known.name, known=known) for known in PUBLIC_SETS.values()]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        known: PublicSet = self.builder_config.known
        return tfds.core.DatasetInfo(
            builder=self,
            description=DATASETS.built_in[known.name].description,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=known.image_shape, dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=list(known.class_names)),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        known: PublicSet = self.builder_config.known
        urls = {file: urllib.parse.urljoin(known.url, file) for file in known.files}
        files = {file: Path(path) for file, path in dl_manager.download(urls).items()}
        dataset = _read_originals(known, files)
        return {
            "train": self._generate_examples(dataset.train_images, dataset.train_labels),
            "test": self._generate_examples(dataset.test_images, dataset.test_labels),
        }

    def _generate_examples(self, images: Any, labels: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {"image": image, "label": int(label)}


def prepare(known: PublicSet, folder: Path, out: Path) -> None:
    """Download and prepare a data set if necessary, and write its arrays.

    Args:
        known: the data set.
        folder: TFDS's data folder.
        out: folder for ``train_images.npy`` and the other arrays.

    Raises:
        DataError: the files cannot be downloaded or are not the original ones.
    """
    builder = _builder(known, folder)
    config = tfds.download.DownloadConfig(
        manual_dir=manual_folder(known, folder),
        try_download_gcs=False,
        force_checksums_validation=True,
    )
    try:
        builder.download_and_prepare(download_dir=folder / "downloads", download_config=config)
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        raise DataError(f"data set {known.name!r}: a file is not the original. {error}") from error
    except OSError:
        if not Path(builder.data_path).is_dir():
            raise
    # A builder knows what was there when it was made; another process may have prepared the data set since.
    _write_arrays(_builder(known, folder), known, out, shuffled=False)


def export(known: PublicSet, prepared: Path, out: Path) -> None:
    """Write the arrays of a data set that was prepared by TFDS's own builder, in their original order.

    Args:
        known: the data set.
        prepared: folder of one version, in the array_record format.
        out: folder for the arrays.
    """
    _write_arrays(tfds.builder_from_directory(prepared), known, out, shuffled=True)


def main() -> int:
    """Run the command line; returns the exit code, which is 1 after a DataError."""
    parser = argparse.ArgumentParser(description="Prepare a public data set with TensorFlow Datasets.")
    parser.add_argument("name", choices=PUBLIC_SETS)
    parser.add_argument("--tfds-dir", type=Path, required=True, help="TFDS's data folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays")
    parser.add_argument("--prepared", type=Path, help="read this folder, prepared by TFDS's own builder")
    args = parser.parse_args()
    known = PUBLIC_SETS[args.name]
    report = sys.stdout
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    print(f"Preparing data set {known.name}. This is done once.", file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            if args.prepared:
                export(known, args.prepared, args.out)
            else:
                prepare(known, args.tfds_dir, args.out)
        except DataError as error:
            print(error, file=report)
            return 1
    return 0


def _builder(known: PublicSet, folder: Path) -> DlbenchImages:
    return DlbenchImages(config=known.name, data_dir=folder, file_format="array_record")


def _read_originals(known: PublicSet, files: dict[str, Path]) -> Dataset:
    reader = READERS[known.format]
    dataset: Dataset = reader.read_files(known, reader.files_of_download(known, files))
    return dataset


def _write_arrays(builder: Any, known: PublicSet, out: Path, *, shuffled: bool) -> None:
    for split, count in (("train", known.num_train), ("test", known.num_test)):
        examples = builder.as_data_source(split=split)
        if len(examples) != count:
            raise DataError(
                f"data set {known.name!r}: {builder.data_dir} holds {len(examples)} {split} images, "
                f"not {count}."
            )
        images = np.empty((count, *known.image_shape), np.uint8)
        labels = np.empty(count, np.int32)
        order = _original_order(split, count) if shuffled else range(count)
        for place, example in zip(order, examples, strict=True):
            images[place], labels[place] = example["image"], example["label"]
        if shuffled and known.is_transposed:
            images = images.transpose(0, 2, 1, 3)
        if shuffled:
            labels -= known.first_label
        np.save(out / f"{split}_images.npy", images, allow_pickle=False)
        np.save(out / f"{split}_labels.npy", labels, allow_pickle=False)


def _original_order(split: str, count: int) -> list[int]:
    """The position of each stored example in the original file; TFDS sorts examples by a hash of that position."""
    hasher = hashing.Hasher(split)
    return sorted(range(count), key=hasher.hash_key)


if __name__ == "__main__":
    sys.exit(main())
