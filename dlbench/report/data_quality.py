"""What was found in a data set, as tables, sentences and a record."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dlbench.analysis.label_errors import LabelError, LabelErrors
from dlbench.data.cleaned import COLUMNS
from dlbench.data.quality import NEAR, Group, Quality
from dlbench.report.listings import facts_table
from dlbench.report.tables import Column, Points, Report, Table, count, percent, thousands

#: Groups of images that are listed.
_LISTED = 5
_IMBALANCE = "the most frequent class has {:.2f} times as many images as the rarest"
#: Likely label errors of a half that are listed.
_ERRORS = 15


def quality_report(found: Quality) -> Report:
    """Classes, and what may be wrong with the images and labels."""
    total = found.num_train + found.num_test
    height, width, channels = found.image_shape
    low, high = found.shift_interval
    near = found.near_duplicates
    crossing = sum(group.crosses for group in near)
    some = f", of {found.compared:,} images drawn at random" if found.compared < total else ""
    copied = {place for group in near if group.crosses for place in group.places if place[0] == "test"}
    facts = (
        ("images", f"{found.num_train:,} for training, {found.num_test:,} for testing"),
        ("shape", f"{height}x{width}x{channels}, values {found.value_range[0]} to {found.value_range[1]}"),
        *([("imbalance", _IMBALANCE.format(found.imbalance))] if found.class_names else []),
        ("missing or unreadable files", f"{len(found.unreadable):,}"),
        ("constant images", f"{len(found.constant):,}"),
        (
            "duplicates",
            f"{count(len(found.duplicates), 'group')}, {len(found.shared):,} with images of both halves",
        ),
        ("label conflicts", f"{count(len(found.conflicts), 'group')} of duplicates with different labels"),
        (
            "near-duplicates",
            f"{count(len(near), 'pair')}, {crossing:,} across the halves, of {count(len(copied), 'test image')}{some}",
        ),
        ("train/test shift", f"AUC {found.shift_auc:.3f} [{low:.3f}, {high:.3f}]"),
    )
    columns = (
        Column("class", "class", left=True),
        Column("train", "training", thousands),
        Column("share", "share %", percent),
        Column("test", "test", thousands),
    )
    rows = tuple(
        (name, train, train / max(found.num_train, 1), test)
        for name, train, test in zip(found.class_names, found.train_counts, found.test_counts, strict=True)
    )
    unreadable = tuple(f"{path} {words}" for path, words in found.unreadable.items())
    return [
        facts_table(found.name, facts),
        *([Points("Files that are missing or cannot be read:", unreadable)] if unreadable else []),
        *([Table("Classes", columns, rows)] if rows else []),
        *_listed("Duplicates across the halves:", found.shared),
        *_listed("Duplicates with different labels:", found.conflicts),
        *_listed("Near-duplicates across the halves:", [group for group in near if group.crosses]),
        *quality_words(found),
    ]


def quality_words(found: Quality) -> list[str]:
    """What follows from the findings, in sentences."""
    said = []
    if found.shared:
        images = sum(half == "test" for group in found.shared for half, _ in group.places)
        said.append(
            f"{count(images, 'test image')} of {found.num_test:,} are identical to training images, so test "
            "accuracy is biased upwards."
        )
    if found.shift_interval[0] > 0.5:
        said.append(
            f"A classifier distinguishes training from test images (AUC {found.shift_auc:.3f}; 0.5 is chance), so the "
            "halves have different distributions."
        )
    if found.near_duplicates:
        said.append(
            f"Near-duplicates are pairs whose details correlate by at least {NEAR:g}, far more than with other images; "
            "look at them before you remove any."
        )
    return said


def _listed(lead: str, groups: Sequence[Group]) -> list[Points]:
    if not groups:
        return []
    more = f" The first {_LISTED} of {len(groups):,}." if len(groups) > _LISTED else ""
    return [Points(f"{lead}{more}", tuple(map(_in_words, groups[:_LISTED])))]


def _in_words(group: Group) -> str:
    return ", ".join(
        f"{half} {number} (label {label:g})"
        for (half, number), label in zip(group.places[:6], group.labels, strict=False)
    )


def quality_record(found: Quality) -> dict[str, Any]:
    """The findings for JSON; images by half and index."""
    return {
        **asdict(found),
        "num_shared": len(found.shared),
        "num_conflicts": len(found.conflicts),
        "words": quality_words(found),
    }


def label_errors_report(found: LabelErrors, names: Sequence[str]) -> Report:
    """The labels that are likely wrong, the least probable first.

    Args:
        found: the labels.
        names: one name per class.
    """
    columns = (
        Column("index", "image", thousands),
        Column("label", "label", left=True),
        Column("suggested", "networks say", left=True),
        Column("probability", "probability of the label %", percent),
    )
    parts: Report = []
    for half, errors in found.found.items():
        rows = tuple((e.index, names[e.label], names[e.suggested], e.probability) for e in errors[:_ERRORS])
        checked, share = found.num_checked[half], len(errors) / found.num_checked[half]
        first = f" The {_ERRORS} with the least probable labels." if len(errors) > _ERRORS else ""
        half = {"train": "training", "test": "test"}[half]
        networks = count(len(found.trials), "network")
        caption = (
            f"{len(errors):,} of {checked:,} {half} images ({percent(share)} %), by {networks} "
            f"of {found.configuration}, each image by those that were not trained on it.{first}"
        )
        parts.append(Table(f"Likely label errors, {half} half", columns, rows, caption))
    parts.append(
        "Confident learning also flags images that are hard; look at them before you correct their labels."
    )
    return parts


def label_errors_record(found: LabelErrors, names: Sequence[str]) -> dict[str, Any]:
    """The labels that are likely wrong for JSON, classes by name."""
    return {
        "configuration": found.configuration,
        "trials": list(found.trials),
        "num_checked": dict(found.num_checked),
        "found": {half: [_named(each, names) for each in errors] for half, errors in found.found.items()},
    }


def _named(error: LabelError, names: Sequence[str]) -> dict[str, Any]:
    return {**asdict(error), "label": names[error.label], "suggested": names[error.suggested]}


def corrections(found: LabelErrors, names: Sequence[str]) -> str:
    """The likely label errors as a file of corrections, in which each image is left out until it is given a label."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*COLUMNS, "given", "suggested", "probability"), lineterminator="\n")
    writer.writeheader()
    for errors in found.found.values():
        for error in errors:
            record = _named(error, names)
            writer.writerow({**record, "given": record["label"], "label": ""})
    return text.getvalue()
