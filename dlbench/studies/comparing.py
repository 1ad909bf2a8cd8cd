"""Compare models in one study, or whole studies with each other. No jax."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

from dlbench.analysis.across import Source, StudiesComparison, compare_studies
from dlbench.spec.study import StudySpec
from dlbench.storage.results import StudyRecord
from dlbench.storage.store import FILE_NAME, Store
from dlbench.studies import designs
from dlbench.studies.result import open_study


@overload
def compare(**axes: Any) -> StudySpec: ...
@overload
def compare(
    first: StudyRecord | Path | str,
    second: StudyRecord | Path | str,
    /,
    *more: StudyRecord | Path | str,
    metric: str | None = ...,
) -> StudiesComparison: ...
def compare(*studies: StudyRecord | Path | str, **axes: Any) -> StudySpec | StudiesComparison:
    """A comparison of models that are trained in the same way; or of studies that were trained already.

    ``compare(model=["baseline", "stabilized"], seeds=5)`` makes a study, to find which differences the data support.
    Give several ``seeds``: differences cannot be tested without repetitions.

    ``compare("runs/a", "runs/b")`` compares the configurations of two studies or more, and lists what differs between
    the studies: see :func:`~dlbench.analysis.across.compare_studies`.

    Args:
        studies: folders of studies, or results.
        axes: without studies: as for :func:`~dlbench.grid`, with at least two models. With studies: ``metric``, the
            metric to compare, by default the one that the trials are chosen by, on test images.

    Raises:
        InputError: as for :func:`~dlbench.grid`, or there are fewer than two models or studies.
        StoreError: a folder holds no study, or the study is damaged.
    """
    if not studies:
        return designs.compare(**axes)
    return compare_studies([_source(study) for study in studies], **axes)


def _source(study: StudyRecord | Path | str) -> Source:
    result = study if isinstance(study, StudyRecord) else open_study(study, history=False)
    if not (result.folder / FILE_NAME).is_file():
        return Source(result)
    with Store(result.folder) as store:
        return Source(result, (store.manifests() or [{}])[-1])
