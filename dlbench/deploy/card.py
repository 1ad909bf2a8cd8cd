"""Model cards: one Markdown page about a trained network, with the metadata that the Hugging Face hub reads. No jax."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dlbench.analysis.by_class import ByClass, by_class
from dlbench.analysis.by_slice import by_slice, named_slices
from dlbench.analysis.calibration import Calibration, calibration
from dlbench.analysis.configurations import Configuration, configurations
from dlbench.analysis.generalization import fit_of
from dlbench.analysis.predictions import Predictions, predictions_of
from dlbench.errors import InputError, printable
from dlbench.records import TrialStatus
from dlbench.report.diagnosis import (
    by_class_report,
    by_slice_report,
    calibration_report,
    fit_words,
    share,
)
from dlbench.report.listings import origin
from dlbench.report.tables import (
    count,
    duration,
    escaped,
    percent,
    plus_minus,
    replicate,
    to_markdown,
    within,
)
from dlbench.spec.registry import label
from dlbench.storage.results import TrialResult
from dlbench.storage.store import Store
from dlbench.studies.replay import find, manifest_of


def model_card(
    folder: Path | str, trial_id: str, commands: Sequence[str] = (), data_dir: str | None = None
) -> str:
    """The model card of a trial's best network.

    Args:
        folder: the study's folder.
        trial_id: the trial's id, or the beginning of it.
        commands: what to type to train it again, if that is to be said.
        data_dir: folder of the user's data sets.

    Returns:
        Markdown that begins with YAML metadata.

    Raises:
        InputError: there is no such trial, or it did not complete.
        StoreError: the folder holds no study, or the trial's predictions cannot be read.
        DataError: the data set is missing, or has changed.
    """
    folder = Path(folder)
    with Store(folder) as store:
        trials, manifests = tuple(store.results()), store.manifests()
    trial = find(trials, trial_id, folder)
    if trial.status is not TrialStatus.COMPLETE:
        raise InputError(f"trial {trial.id} has diverged, so it has no network to describe")
    (alone,) = configurations([trial])
    group = next(each for each in configurations(trials) if trial in each.trials)
    found = predictions_of(alone, data_dir)
    scores, calibrated = by_class(found), calibration(found)
    name = f"{label(trial.model)} on {found.dataset.name}"
    metadata = _metadata(name, trial, found, scores, calibrated)
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---",
        f"# {escaped(name)}",
        _summary(trial, group, found),
        "## Evaluation",
        _metrics(trial, group, scores, calibrated),
        to_markdown(by_class_report("test images", scores)),
        "### Calibration",
        to_markdown(calibration_report("test images", calibrated)),
        *_slices(found),
        "## Training",
        _data(found),
        _settings(trial),
        escaped(origin(manifest_of([trial], manifests))),
        "## Limits",
        _limits(trial, group, found),
        "## Identity",
        _identity(trial),
        *(["```sh\n" + printable("\n".join(commands), "\n") + "\n```"] if commands else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(
    name: str, trial: TrialResult, found: Predictions, scores: ByClass, calibrated: Calibration
) -> Mapping[str, Any]:
    """The metadata of a card, in the form that the hub documents (model-index)."""
    values = {
        "accuracy": ("Accuracy", scores.top_k[1].estimate),
        "f1": ("Macro F1", scores.macro["f1"].estimate),
        "precision": ("Macro precision", scores.macro["precision"].estimate),
        "recall": ("Macro recall", scores.macro["recall"].estimate),
        "brier_score": ("Brier score", calibrated.before["brier"].estimate),
    }
    dataset = found.dataset.name
    metrics = [
        {"type": kind, "name": title, "value": round(value, 6)} for kind, (title, value) in values.items()
    ]
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"name": dataset, "type": dataset, "split": "test", "revision": found.dataset.digest},
        "metrics": metrics,
    }
    return {
        "library_name": "dlbench",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "jax", "flax", "dlbench"],
        "datasets": [dataset],
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": name, "results": [result]}],
    }


def _summary(trial: TrialResult, group: Configuration, found: Predictions) -> str:
    height, width, channels = found.dataset.image_shape
    names = ", ".join(found.class_names[:20]) + (", ..." if len(found.class_names) > 20 else "")
    return escaped(
        f"A network of the model {label(trial.model)} with {trial.num_params or 0:,} parameters. It assigns images of "
        f"{height}x{width}x{channels} to one of {len(found.class_names)} classes: {names}. Input: float32 "
        f"[N, {height}, {width}, {channels}] in [-1, 1]; output: logits. Its configuration was trained with "
        f"{count(len(group.complete), replicate([group]))}."
    )


def _metrics(trial: TrialResult, group: Configuration, scores: ByClass, calibrated: Calibration) -> str:
    bounds = trial.test_accuracy_bounds
    validation = trial.best_val_accuracy
    rows = [
        ("test accuracy % [95 %, over images]", within(bounds) if bounds else "-"),
        ("macro F1 %", share(scores.macro["f1"])),
        ("ECE, 15 bins", f"{calibrated.before['ece'].estimate:.4f}"),
        ("validation accuracy %", "-" if validation is None else percent(validation)),
    ]
    summary = group.summary("test/accuracy")
    if summary is not None and len(summary.values) > 1:
        title = f"test accuracy % of all {replicate([group])}s" + (
            " (± 95 %)" if summary.has_interval else ""
        )
        rows.append((title, plus_minus(summary)))
    return _table(("metric", "value"), rows)


def _slices(found: Predictions) -> list[str]:
    """The accuracy by every slice that the data set carries."""
    tables = []
    for name in found.dataset.slices:
        with contextlib.suppress(InputError):  # one slice only
            sliced = by_slice(found, named_slices(name, found.dataset), name)
            tables.append(to_markdown(by_slice_report("test images", sliced)))
    return ["### Slices", *tables] if tables else []


def _data(found: Predictions) -> str:
    dataset = found.dataset
    return escaped(
        f"Data: {dataset.name} ({dataset.source}), {len(dataset.train_labels):,} images to train and validate on and "
        f"{len(dataset.test_labels):,} to test on, digest {dataset.digest}."
    )


def _settings(trial: TrialResult) -> str:
    record = trial.trial.spec.to_record()
    rows = [(name, str(value)) for name, value in record.items() if value not in (None, (), [], {}, "")]
    if trial.train_time_s is not None:
        rows.append(("training time", f"{duration(trial.train_time_s)} on {trial.device}"))
    if trial.images_per_s is not None:
        rows.append(("images per second in training", f"{trial.images_per_s:,.0f}"))
    if trial.memory_bytes is not None:
        rows.append(("memory of a training epoch", f"{trial.memory_bytes / 2**20:,.1f} MiB"))
    return _table(("setting", "value"), rows)


def _limits(trial: TrialResult, group: Configuration, found: Predictions) -> str:
    words = [
        f"Evaluated on the {len(found.labels):,} test images of {found.dataset.name} alone: images from other sources, "
        "and subgroups that the data do not mark, were not tested.",
        "It assigns one of its classes to every image, including images that show none of them.",
        "The test images took no part in training or in the choice of the epoch.",
    ]
    if len(group.complete) == 1:
        words.append("One seed was trained, so the spread between seeds is not known.")
    if trial.history:
        words += [f"{text[0].upper()}{text[1:]}." for text in fit_words(fit_of(found))]
    return "\n".join(f"- {escaped(word)}" for word in words)


def _identity(trial: TrialResult) -> str:
    rows = [
        ("trial", trial.id),
        ("parameters, SHA-256", trial.best_params_sha256 or "-"),
        ("split, SHA-256", trial.split_digest or "-"),
        ("environment", trial.environment or "-"),
    ]
    return _table(("", ""), rows)


def _table(heads: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    lines = [heads, (":--", ":--"), *((escaped(printable(a)), escaped(printable(b))) for a, b in rows)]
    return "\n".join(f"| {a} | {b.replace('|', chr(92) + '|')} |" for a, b in lines)
