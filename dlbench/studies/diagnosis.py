"""What the accuracy of a study hides, as sections and figures of its report. No jax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dlbench.analysis.by_class import by_class
from dlbench.analysis.by_slice import by_slice
from dlbench.analysis.calibration import calibration
from dlbench.analysis.generalization import fit_of
from dlbench.analysis.predictions import Predictions
from dlbench.errors import DlbenchError
from dlbench.report import diagnosis as words
from dlbench.report.figures.canvas import Drawing
from dlbench.report.figures.occlusion import occlusion_maps
from dlbench.report.figures.robustness import robustness_curves
from dlbench.report.tables import Report
from dlbench.studies.result import open_study
from dlbench.studies.robustness import occlusion_of, robustness_of

#: Studies of more trials are not diagnosed for their report, because that would take minutes.
MAX_TRIALS = 500
#: Configurations whose networks are run on corrupted images.
MAX_ROBUST = 3


@dataclass(frozen=True)
class Diagnosis:
    """What a report says beside its first tables.

    Attributes:
        folded: reports by class and slice, on calibration, fit, cost and robustness, by title, as far as they could be
            made.
        drawings: figures.
        problems: why reports are missing, in sentences.
    """

    folded: Mapping[str, Report] = field(default_factory=dict)
    drawings: tuple[Drawing, ...] = ()
    problems: tuple[str, ...] = ()


def diagnose(folder: Path, run_networks: bool = False) -> Diagnosis:
    """Diagnose a study for its report; what concerns one configuration is said of the best on validation images.

    Args:
        folder: the study's folder.
        run_networks: whether networks are run on corrupted and on partly covered images, which takes longer.
    """
    result = open_study(folder)
    if len(result.complete) > MAX_TRIALS:
        return Diagnosis(
            problems=(f"{folder.name} has more than {MAX_TRIALS} trials, so its report has no diagnosis",)
        )
    try:
        found = result.predictions()
    except DlbenchError as error:
        return Diagnosis(problems=(f"the report of {folder.name} has no diagnosis: {error}",))
    label, best = next(iter(found.items()))
    makers: dict[str, Callable[[], Report]] = {
        "By class": lambda: words.by_class_report(label, by_class(best)),
        **{f"By slice: {name}": partial(_by_slice, label, best, name) for name in best.dataset.slices},
        "Calibration": lambda: words.calibration_report(label, calibration(best)),
        "Over- and underfitting": lambda: words.fit_report(
            {name: fit_of(each) for name, each in found.items()}
        ),
        "Cost": lambda: words.cost_report(result.cost()),
    }
    drawings = []
    if run_networks:
        robust = {name: robustness_of(each) for name, each in [*found.items()][:MAX_ROBUST]}
        makers["Robustness"] = lambda: words.robustness_report(robust)
        drawings.append(robustness_curves(robust))
    folded, problems = {}, []
    for title, make in makers.items():
        try:
            folded[title] = make()
        except DlbenchError as error:
            problems.append(f"the report of {folder.name} says nothing about {title!r}: {error}")
    if run_networks and (maps := occlusion_of(best)):
        drawings.append(occlusion_maps(label, maps))
    return Diagnosis(folded, tuple(drawings), tuple(problems))


def _by_slice(label: str, best: Predictions, name: str) -> Report:
    return words.by_slice_report(label, by_slice(best, best.dataset.slices[name].tolist(), name))
