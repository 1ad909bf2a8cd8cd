"""Exported studies: studies as text files, small enough for git. They are written and read here. No jax.

| file | what it holds |
|---|---|
| `trials.csv` | all recorded values of all trials, in full precision |
| `history.csv` | the curves of all configurations: mean over seeds and 95 % interval, epoch by epoch |
| `manifest.json` | the recorded environment |
| `study.yaml` | the file that the study was run from, if there was one |
| `figures/` | the figures, and `figures.json` with their titles, captions and alternative texts |
| `diagnosis.json` | the folded sections of the page, if the study was diagnosed |
| `report.md` | the report |
| `notes.md` | remarks written by hand; read, but never written |
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from dlbench import files
from dlbench.analysis.claims import judge_study
from dlbench.analysis.collapse import collapse_by_rate
from dlbench.analysis.configurations import configurations
from dlbench.analysis.few_seeds import few_seeds
from dlbench.analysis.protocols import compare_protocols, components_of, variation_by_source
from dlbench.errors import ANOTHER_OUT, StoreError
from dlbench.records import OUTCOME_FIELDS, Epoch, Outcome, TrialStatus
from dlbench.report import figures, origin, records_table, study_report, trial_table
from dlbench.report.collapse import collapse_report
from dlbench.report.document import to_page
from dlbench.report.few_seeds import few_seeds_report
from dlbench.report.figures.canvas import Drawing
from dlbench.report.folded import FOLDED_FILE, read_folded, to_text
from dlbench.report.histories import history_table
from dlbench.report.page import Section, StudyPage, read_figures
from dlbench.report.protocols import components_report, protocol_report, variation_report
from dlbench.report.studies import StudyReport, study_title
from dlbench.report.tables import Report, capitalized, from_cell, listed
from dlbench.report.verdicts import ClaimsReport
from dlbench.spec.claims import Claim
from dlbench.spec.config import read_claims, read_published
from dlbench.spec.metrics import point
from dlbench.spec.published import Published
from dlbench.spec.study import KINDS, StudySpec
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.storage.results import LinearModel, StudyRecord, TrialResult
from dlbench.storage.store import Store
from dlbench.storage.studies import read_study

TRIALS, HISTORY, MANIFEST, STUDY, NOTES, REPORT = (
    "trials.csv",
    "history.csv",
    "manifest.json",
    "study.yaml",
    "notes.md",
    "report.md",
)
#: Bytes of a file, at most.
_LONGEST = 2**28
#: Columns that exports of 0.1.0 do not have.
_ADDED = ("environment", "files_sha256", "stopped_epoch", "origin", "plateau_epoch", "memory_bytes")
#: Columns that hold text; the others hold numbers or JSON.
_TEXTS = (
    "split_digest",
    "params_sha256",
    "best_params_sha256",
    "history_sha256",
    "device",
    "environment",
    "files_sha256",
    "origin",
)


#: The names that dlbench gives to folders, and those of fields as they stand in the names of folders.
_GIVEN = re.compile(rf"(?:{'|'.join(KINDS.values())})(?:-[0-9a-f]{{10}})?")
_FIELD = "|".join(sorted((name.replace("_", "-") for name in TrialSpec.model_fields), key=len, reverse=True))


@dataclass(frozen=True)
class Export:
    """An exported study.

    Attributes:
        folder: its folder.
        result: the study; trials have no history if their configuration has several seeds. ``None`` if the folder
            holds only notes.
        description: the question that the study answers; may be empty.
        claims: the claims that were made before it was run.
        manifest: the recorded environment.
        notes: remarks in Markdown.
    """

    folder: Path
    result: StudyRecord | None
    description: str
    claims: tuple[Claim, ...]
    manifest: Mapping[str, Any]
    notes: str

    @property
    def title(self) -> str:
        """A heading: the folder's name, or what was studied where the folder has a name that dlbench gave it.

        "Weight decay" for 02-weight-decay, "Learning rate and batch size" for 01-learning-rate-batch-size, and
        "Architectures on mnist5k" for compare-archs-0123456789.
        """
        name = re.sub(r"^\d+[-_]", "", self.folder.resolve().name)
        if self.result is not None and _GIVEN.fullmatch(name):
            return study_title(self.result)
        names = re.findall(_FIELD, name) if re.fullmatch(f"(?:{_FIELD})(?:-(?:{_FIELD}))*", name) else [name]
        return capitalized(listed([each.replace("-", " ").replace("_", " ") for each in names]))

    def section(self) -> Section:
        """The study as a section of a document."""
        page = None if self.result is None else self._page(self.result)
        return Section(self.title, self.notes, page, self.folder)

    def _page(self, result: StudyRecord) -> StudyPage:
        folder = self.folder / "figures"
        shown = {
            key: value
            for key, value in self.manifest.items()
            if key not in ("trial_ids", "command", "linear", "right")
        }
        commands = (shlex.join(map(str, self.manifest.get("command") or ())),)
        return StudyPage(
            name=self.folder.resolve().name,
            title=self.title,
            description=self.description,
            report=self._report(result),
            trials=trial_table(result.trials),
            figures=read_figures(folder),
            figures_dir=folder,
            manifest=shown,
            commands=tuple(command for command in commands if command),
            folded=read_folded(self.folder),
        )

    def _report(self, result: StudyRecord) -> StudyReport:
        """The report of the study with its claims, and with the machine instead of the folder."""
        judged = judge_study(self.claims, result)
        return replace(
            study_report(result, others=judged.others if judged.ranked else ()),
            claims=ClaimsReport(judged) if judged.judgements else None,
            variation=[
                *variation_report(variation_by_source(result.trials), result.trials),
                *components_report(components_of(result.trials, known=result.right)),
                *few_seeds_report(few_seeds(result.trials)),
                *collapse_report(collapse_by_rate(result.trials), result.trials),
            ],
            protocols=protocol_report(compare_protocols(result.trials), result.trials),
            origin=list(filter(None, [origin(self.manifest)])),
        )


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported study, or notes for a report."""
    return any((folder / name).is_file() for name in (TRIALS, NOTES))


def export(
    study: Path, folder: Path, folded: Mapping[str, Report] | None = None, drawings: Sequence[Drawing] = ()
) -> Export:
    """Write a study as text and figures. An earlier export of the same study is replaced.

    Args:
        study: the study's folder.
        folder: the folder to write to; created if necessary.
        folded: further reports that the page shows folded, by title.
        drawings: figures beside those of every study.

    Raises:
        StoreError: the study cannot be read, or ``folder`` holds anything but an export of it.
    """
    result = read_study(study)
    with Store(study) as store:
        manifest = (store.manifests() or [{}])[-1]
    if not result.trials:
        raise StoreError(f"the study in {study} has no trials; there is nothing to report")
    _refuse_foreign(folder, {trial.id for trial in result.trials})
    config = str(manifest.pop("config", ""))
    manifest |= {"kind": result.spec.kind, "looks": list(result.spec.looks), "times": dict(result.times)}
    if result.linear:
        manifest["linear"] = {key: vars(each) for key, each in result.linear.items()}
    if right := {
        each.configuration.trials[0].id: each.right for each in components_of(result.trials) if each.right
    }:
        manifest["right"] = right
    if result.load is not None:
        manifest["load"] = result.load
    manifest |= {"energy": dict(result.energy)} if result.energy else {}
    if len({trial.environment for trial in result.trials}) > 1:
        manifest["environments"] = {name: {**each} for name, each in result.environments.items()}
    for described in (manifest.get("device", {}), *manifest.get("environments", {}).values()):
        described.pop("compilation_cache", None)  # a path of one machine
    texts = {
        TRIALS: records_table(_with_points(result.trials, config)).to_csv(),
        HISTORY: history_table(result.trials).to_csv(),
        MANIFEST: json.dumps(manifest, indent=2) + "\n",
        **({STUDY: config} if config else {}),
        **({FOLDED_FILE: to_text(folded)} if folded else {}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in {STUDY, FOLDED_FILE} - texts.keys():
            files.remove(folder / name)
        for name, text in texts.items():
            _write(folder / name, text)
        figures.draw(result, folder / "figures", drawings)
        exported = read(folder)
        _write(folder / REPORT, to_page(exported.section(), folder))
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}", remedy=ANOTHER_OUT
        ) from None
    return exported


def _with_points(trials: Sequence[TrialResult], config: str) -> list[TrialResult]:
    """The trials with those points of their curves among their metrics that claims and published results name."""
    claims = read_claims(config, Path(STUDY))[1] if config else ()
    named = {side.metric for claim in claims for side in (claim.first, claim.second)}
    named |= {name for each in read_published(config, Path(STUDY)) for name in each.values}
    points = sorted(filter(point, named))
    return [
        replace(trial, outcome=replace(trial.outcome, metrics={**trial.metrics, **values}))
        for trial in trials
        for values in [{name: trial.value(name) for name in points}]
    ]


def _write(path: Path, text: str) -> None:
    files.write_whole(path, lambda file: file.write(text.encode()))


def _refuse_foreign(folder: Path, ids: set[str]) -> None:
    """Check that the folder is new, or holds an earlier export of the same study."""
    files.refuse_links(folder, folder / "figures")
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
    if not (folder / TRIALS).is_file():
        if found - {NOTES}:
            raise StoreError(
                f"{folder} exists and is not an exported study",
                remedy=(*ANOTHER_OUT, ", or rename the study"),
            )
        return
    if {row.get("id") for row in _rows(folder / TRIALS)} - ids:
        raise StoreError(
            f"{folder} holds the export of another study", remedy=(*ANOTHER_OUT, ", or remove that folder")
        )


def read(folder: Path) -> Export:
    """Read an exported study. Nothing is written, and no code of the study's models is run.

    Raises:
        StoreError: a file is missing or was changed.
        ConfigError: a claim in the study's YAML file is invalid.
    """
    trials, manifest, config, notes = (folder / name for name in (TRIALS, MANIFEST, STUDY, NOTES))
    text = _text(config) if config.is_file() else ""
    description, claims = read_claims(text, config) if text else ("", ())
    recorded = _json(manifest) if manifest.is_file() else {}
    return Export(
        folder,
        _result(folder, recorded, read_published(text, config)) if trials.is_file() else None,
        description,
        claims,
        recorded,
        _text(notes) if notes.is_file() else "",
    )


def _result(folder: Path, manifest: Mapping[str, Any], published: tuple[Published, ...]) -> StudyRecord:
    path = folder / TRIALS
    trials = []
    for number, row in enumerate(_rows(path), start=2):
        try:
            trials.append(_trial(row))
        except (KeyError, TypeError, ValueError) as error:
            reason = (
                str(error).splitlines()[0] if not isinstance(error, ValidationError) else "a field is wrong"
            )
            raise StoreError(
                f"{path}, record {number - 1}: this is not a trial as dlbench wrote it ({reason})"
            ) from None
    if not trials:
        raise StoreError(f"{path} holds no trial")
    known = {"kind": "grid", "looks": ()} | {
        name: manifest[name] for name in ("kind", "looks", "search") if name in manifest
    }
    try:
        spec = StudySpec.model_validate({**known, "trials": [trial.trial.spec for trial in trials]})
        linear = _LINEAR.validate_python(manifest.get("linear", {}))
        load = _LOAD.validate_python(manifest.get("load"))
        right = _RIGHT.validate_python(manifest.get("right", {}))
    except ValidationError:
        raise StoreError(f"{folder / MANIFEST} is not a manifest as dlbench wrote it") from None
    times, energy = (
        {kind: float(number) for kind, number in manifest.get(key, {}).items()} for key in ("times", "energy")
    )
    histories = tuple(_with_histories(trials, folder / HISTORY))
    environments = _environments(manifest)
    return StudyRecord(
        spec,
        histories,
        folder,
        times=times,
        energy=energy,
        environments=environments,
        published=published,
        linear=linear,
        load=load,
        right=right,
    )


_LINEAR = TypeAdapter(dict[str, LinearModel])
_LOAD = TypeAdapter(float | None)
_RIGHT = TypeAdapter(dict[str, tuple[NonNegativeInt, ...]])


def _environments(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Descriptions of the environments of an exported study, by digest."""
    found = manifest.get("environments", {})
    known = found.items() if isinstance(found, Mapping) else ()
    return {name: described for name, described in known if isinstance(described, Mapping)}


def _trial(row: Mapping[str, str]) -> TrialResult:
    fields: dict[str, Any] = {name: row[name] or None for name in TrialSpec.model_fields if name in row}
    fields |= {name: json.loads(text) for name, text in row.items() if name.endswith("_args")}
    trial = Trial(
        spec=TrialSpec(**fields),
        data_digest=row["data_digest"],
        model_digest=row["model_digest"],
        part_digests=tuple(sorted(json.loads(row.get("part_digests") or "{}").items())),
        lanes=int(row["lanes"]),
    )
    version = row.get("numerics")
    trial = trial.with_numerics(int(version)) if version else trial.recorded_as(row["id"])
    if trial.id != row["id"]:
        raise ValueError(f"its fields have the id {trial.id}, not {row['id']}")
    outcome = {name: _value(name, row[name]) for name in OUTCOME_FIELDS if name not in _ADDED and row[name]}
    outcome |= {name: _value(name, row[name]) for name in _ADDED if row.get(name)}
    outcome |= {name: json.loads(text) for name, text in row.items() if text and _is_metric(name)}
    return TrialResult(
        trial, TrialStatus(row["status"]), Outcome.from_record(outcome), error=row["error"] or None
    )


def _is_metric(name: str) -> bool:
    """Whether a column holds a metric that only some trials have."""
    fixed = name in TrialSpec.model_fields or name in OUTCOME_FIELDS
    return name.startswith(("val_", "test_", "train_")) and not fixed


def _value(name: str, text: str) -> Any:
    return text if name in _TEXTS else json.loads(text)


def _with_histories(trials: Sequence[TrialResult], path: Path) -> list[TrialResult]:
    """The trials with histories, where the curve of a configuration is that of its only trial."""
    if not path.is_file():
        return list(trials)
    lone = {group.trials[0].id for group in configurations(trials) if len(group.trials) == 1}
    epochs: dict[str, list[Epoch]] = {}
    for row in _rows(path):
        if row.get("trial") in lone:
            try:
                values = [float(row[f"{name}_mean"] or math.nan) for name in Epoch._fields[:4]]
                own = row.get(f"{Epoch._fields[4]}_mean")
                epoch = Epoch.of([*values, float(own) if own else None])
            except (KeyError, ValueError):
                raise StoreError(f"{path} is not as dlbench wrote it") from None
            epochs.setdefault(row["trial"], []).append(epoch)
    return [
        TrialResult(trial.trial, trial.status, trial.outcome, tuple(epochs.get(trial.id, ())), trial.error)
        for trial in trials
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        rows = csv.DictReader(io.StringIO(_text(path), newline=""))
        return [
            {name: from_cell(cell) for name, cell in row.items() if isinstance(cell, str)} for row in rows
        ]
    except (csv.Error, ValueError) as error:
        raise StoreError(f"{path} is not valid CSV: {error}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StoreError(f"{path} is not a manifest as dlbench wrote it")
    return value


def _text(path: Path) -> str:
    try:
        return files.read(path, _LONGEST).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise StoreError(f"{path} cannot be read: {reason}") from None
