"""MLflow: the runs of a study in a database or on a server. No jax.

All studies are in the experiment "dlbench". A run gets the tag ``dlbench.digest`` when it is complete; a run without
it, or with another digest, is replaced.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Read when mlflow is imported: no usage statistics, no messages, and a wait of seconds where a server does not answer.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import alembic  # noqa: F401 (mlflow-skinny needs both for databases, and does not say so)
import sqlalchemy
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from dlbench.errors import InputError, printable
from dlbench.report.trackers import runs
from dlbench.storage.results import StudyRecord

DIGEST = "dlbench.digest"
_STUDY, _TRIAL = "dlbench.study", "dlbench.trial"
#: The most that one request may hold.
_METRICS, _PARAMS, _LONGEST = 1000, 100, 6000


def send(result: StudyRecord, uri: str) -> runs.Sent:
    """Send a study.

    Args:
        result: the study.
        uri: the address of a database or a server.

    Raises:
        InputError: it cannot be reached, or refuses.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return _send(runs.StudyRuns(result), uri)
    except MlflowException as error:
        reason = printable(str(error).splitlines()[0])[:300]
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        reason = printable(str(error).splitlines()[0])[:300]
    raise InputError(
        f"MLflow cannot be used at {uri}: {reason}",
        field="to",
        remedy="name a database (mlflow:sqlite:///runs.db) or a running server (mlflow:http://HOST:PORT)",
    )


def _send(study: runs.StudyRuns, uri: str) -> runs.Sent:
    client = MlflowClient(uri, registry_uri=uri)
    experiment = _experiment(client, uri)
    there = _there(client, experiment, study.name)
    parent = _parent(client, experiment, study, there.get(""))
    added = 0
    for run in study.runs:
        found = there.get(run.trial.id)
        if found is not None and found.data.tags.get(DIGEST) == run.digest:
            continue
        if found is not None:
            client.delete_run(found.info.run_id)
        _add(client, experiment, run, parent)
        added += 1
    client.set_tag(parent, DIGEST, study.digest)
    return runs.Sent(study.name, uri, added, len(study.runs) - added)


def _experiment(client: MlflowClient, uri: str) -> str:
    """The id of the experiment, created if it is new; with SQLite, its files are in a folder beside the database."""
    found = client.get_experiment_by_name(runs.PROJECT)
    if found is not None:
        return str(found.experiment_id)
    file = uri.removeprefix("sqlite:///")
    place = None if file == uri else (Path(file).absolute().parent / "mlartifacts").as_uri()
    return str(client.create_experiment(runs.PROJECT, artifact_location=place))


def _there(client: MlflowClient, experiment: str, study: str) -> dict[str, Run]:
    """The runs of a study by the id of their trial; "" for the study's own."""
    wanted = study.replace("'", "\\'")
    found: dict[str, Run] = {}
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.`{_STUDY}` = '{wanted}'", page_token=token)
        found |= {run.data.tags.get(_TRIAL, ""): run for run in page}
        token = page.token
        if not token:
            return found


def _parent(client: MlflowClient, experiment: str, study: runs.StudyRuns, found: Run | None) -> str:
    """The id of the study's run, with the report of the study as it is now."""
    if found is None:
        made = client.create_run(experiment, tags={_STUDY: study.name}, run_name=study.name)
        run_id = str(made.info.run_id)
        _log(client, run_id, study.settings, [])
        client.set_terminated(run_id)
    else:
        run_id = str(found.info.run_id)
    if found is None or found.data.tags.get(DIGEST) != study.digest:
        client.log_text(run_id, study.report, "report.md")
    return run_id


def _add(client: MlflowClient, experiment: str, run: runs.Run, parent: str) -> None:
    tags = {**run.tags, "mlflow.parentRunId": parent}
    run_id = client.create_run(experiment, tags=tags, run_name=run.name).info.run_id
    now = int(time.time() * 1000)
    last = len(run.curves)
    metrics = [
        Metric(name, value, now, step)
        for step, point in [*enumerate(run.curves, start=1), (last, run.final)]
        for name, value in point.items()
    ]
    _log(client, run_id, run.settings, metrics)
    if run.failed:
        client.log_text(run_id, run.trial.error or "", "error.txt")
    if run.files is not None:
        client.log_artifacts(run_id, str(run.files), "trial")
    client.set_terminated(run_id, "FAILED" if run.failed else "FINISHED")
    client.set_tag(run_id, DIGEST, run.digest)


def _log(
    client: MlflowClient, run_id: str, settings: Mapping[str, object], metrics: Sequence[Metric]
) -> None:
    params = [Param(name, str(value)[:_LONGEST]) for name, value in settings.items()]
    for start in range(0, len(params), _PARAMS):
        client.log_batch(run_id, params=params[start : start + _PARAMS])
    for start in range(0, len(metrics), _METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS])
