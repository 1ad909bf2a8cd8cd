"""What was found in a data set, as tables, sentences and a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dlbench.data.quality import NEAR, Group, Quality
from dlbench.report.listings import facts_table
from dlbench.report.tables import Column, Points, Report, Table, count, percent, thousands

#: Groups of images that are listed.
_LISTED = 5
_IMBALANCE = "the most frequent class has {:.2f} times as many images as the rarest"


def quality_report(found: Quality) -> Report:
    """Classes, and what may be wrong with the images and labels."""
    total = found.num_train + found.num_test
    height, width, channels = found.image_shape
    low, high = found.shift_interval
    near = found.near_duplicates
    crossing = sum(group.crosses for group in near)
    some = f" among {found.compared:,} images drawn at random" if found.compared < total else ""
    facts = (
        ("images", f"{found.num_train:,} for training, {found.num_test:,} for testing"),
        ("shape", f"{height}x{width}x{channels}, values {found.value_range[0]} to {found.value_range[1]}"),
        *([("imbalance", _IMBALANCE.format(found.imbalance))] if found.class_names else []),
        ("constant images", f"{len(found.constant):,}"),
        (
            "duplicates",
            f"{count(len(found.duplicates), 'group')}, {len(found.shared):,} with images of both halves",
        ),
        ("label conflicts", f"{count(len(found.conflicts), 'group')} of duplicates with different labels"),
        ("near-duplicates", f"{count(len(near), 'pair')}, {crossing:,} across the halves{some}"),
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
    return [
        facts_table(found.name, facts),
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
            f"Near-duplicates are pairs whose 8x8 grey pictures correlate by at least {NEAR:g}; look at them before "
            "you remove any."
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
