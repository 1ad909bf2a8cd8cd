"""Studies, trained for real: the promises on bits, resuming, workers that die."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dlbench
from dlbench.execution import messages
from dlbench.records import Epoch, TrialStatus
from dlbench.spec.trial import PARTS

#: What TensorBoard calls a trial's final figures.
FINAL = {
    "test/accuracy": "test_accuracy",
    "test/loss": "test_loss",
    "best/val_accuracy": "best_val_accuracy",
    "best/epoch": "best_epoch",
}


def digests(result: dlbench.StudyResult) -> dict[str, tuple[str, str]]:
    assert [trial.error for trial in result if trial.error] == []
    return {trial.id: (trial.params_sha256, trial.history_sha256) for trial in result}


def test_a_study_is_trained_and_recorded(small_result: dlbench.StudyResult) -> None:
    assert [trial.status for trial in small_result] == [TrialStatus.COMPLETE] * 4
    for trial in small_result:
        assert trial.num_params == 206_922
        assert len(trial.history) == 2
        assert trial.test_accuracy_low < trial.test_accuracy < trial.test_accuracy_high
        assert trial.best_val_accuracy == max(epoch.val_accuracy for epoch in trial.history)
        assert trial.history[trial.best_epoch - 1].val_accuracy == trial.best_val_accuracy
        assert sum(map(sum, trial.confusion_matrix)) == 1000
        assert trial.train_time_s > 0
        assert 0.5 < trial.roc_auc <= 1
        assert trial.xla_threads == 1
    assert sum(trial.compile_time_s > 0 for trial in small_result) >= 1
    assert len({trial.params_sha256 for trial in small_result}) == 4


def test_a_part_of_the_test_half_is_tested(
    small_result: dlbench.StudyResult, small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    from dlbench import data
    from dlbench.data.splits import test_indices as indices_for_testing

    whole = small_result.trials[0]
    spec = small_study.trials[0].model_copy(update={"test_size": 120})
    (part,) = dlbench.run(small_study.model_copy(update={"trials": (spec,)}), workers=0, out=tmp_path / "s")
    kept = indices_for_testing(data.load("mnist5k").test_labels, 120)
    logits = [np.load(trial.folder / "test_logits.npy") for trial in (whole, part)]
    assert part.params_sha256 == whole.params_sha256
    np.testing.assert_allclose(logits[1], logits[0][kept], rtol=1e-5, atol=1e-5)
    assert sum(map(sum, part.confusion_matrix)) == 120
    assert dlbench.load(part.folder).test_accuracy() == part.test_accuracy
    assert part.id != whole.id
    everything = spec.model_copy(update={"test_size": 1000})
    assert (
        dlbench.plan(small_study.model_copy(update={"trials": (everything,)}), out=tmp_path / "t")
        .trials[0]
        .id
        == whole.id
    )
    with pytest.raises(dlbench.InputError, match="test_size 1,001 is too large: the test half"):
        dlbench.plan(dlbench.grid(test_size=1001, **SMALL), out=tmp_path / "t")


def test_validation_images_of_the_test_half_and_transformed_ones(
    small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    from dlbench import data

    spec = small_study.trials[0].model_copy(update={"val_from": "test", "sampling": "first"})
    moved = spec.model_copy(update={"val_transform": "augmented"})
    study = small_study.model_copy(update={"trials": (spec, moved)})
    plain, transformed = dlbench.run(study, workers=0, out=tmp_path / "s")
    digits = data.load("mnist5k")
    right = dlbench.load(plain.folder).predict(digits.test_images).argmax(axis=1) == digits.test_labels
    assert plain.best_val_accuracy == pytest.approx(right[: spec.val_size].mean())
    assert plain.test_accuracy == pytest.approx(right.mean())
    # transforms of validation images change what is measured, and not what is trained
    assert transformed.params_sha256 == plain.params_sha256
    losses = [[epoch.val_loss for epoch in trial.history] for trial in (plain, transformed)]
    assert all(a != b for a, b in zip(*losses, strict=True))
    assert plain.split_digest == transformed.split_digest


def test_the_parent_imports_no_jax(small_study: dlbench.StudySpec, tmp_path: Path) -> None:
    """From a script without a main guard, too."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import dlbench

            study = dlbench.grid(train_size=72, val_size=32, batch_size=16, num_epochs=2)
            result = dlbench.run(study, workers=1)
            print(result.trials[0].params_sha256, "jax" in sys.modules)
            """
        )
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"


def test_the_same_study_elsewhere_in_another_order_with_one_worker_has_the_same_bits(
    small_result: dlbench.StudyResult, small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    trials = list(reversed(small_study.trials[:3]))
    again = dlbench.run(dlbench.StudySpec(trials=tuple(trials)), workers=1, out=tmp_path / "again")
    assert digests(again).items() <= digests(small_result).items()


def test_a_trial_in_this_process_has_the_same_bits(small_result: dlbench.StudyResult, tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import dlbench
        study = dlbench.grid(model="baseline", learning_rate=1e-3, seed=0, **{SMALL!r})
        print(dlbench.run(study, workers=0, out={str(tmp_path / "here")!r}).trials[0].params_sha256)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == small_result.trials[0].params_sha256


def test_the_same_command_again_trains_nothing(
    small_result: dlbench.StudyResult, small_study: dlbench.StudySpec
) -> None:
    seen: list[object] = []
    again = dlbench.run(small_study, out=small_result.folder, on_event=seen.append)
    assert again.trials == small_result.trials
    assert [type(event) for event in seen] == [dlbench.Plan]


@pytest.mark.slow
def test_a_study_grows_in_its_folder_and_trains_only_what_is_missing(
    small_result: dlbench.StudyResult, tmp_path: Path
) -> None:
    half = dlbench.grid(learning_rate=1e-3, seed=0, **SMALL)
    dlbench.run(half, out=tmp_path / "s", workers=1)
    started: list[str] = []

    def watch(event: object) -> None:
        if isinstance(event, messages.Started):
            started.extend(event.trial_ids)

    both = dlbench.run(
        dlbench.grid(learning_rate=1e-3, seed=[0, 1], **SMALL), out=tmp_path / "s", on_event=watch
    )
    assert started == [both.trials[1].id]
    assert digests(both).items() <= digests(small_result).items()


def test_the_best_checkpoint_reproduces_the_recorded_accuracy_exactly(
    small_result: dlbench.StudyResult,
) -> None:
    for trial in small_result:
        loaded = trial.load()
        assert loaded.test_accuracy() == trial.test_accuracy
        assert dlbench.load(trial.folder).trial == trial.trial
    with pytest.raises(dlbench.StoreError, match="holds no checkpoint"):
        dlbench.load(small_result.folder)


def event_folder(result: dlbench.StudyResult, trial: dlbench.TrialResult) -> Path:
    (folder,) = (result.folder / "tensorboard").glob(f"*-{trial.id}")
    return folder


def test_tensorboard_shows_the_figures_of_the_store_to_the_last_bit(
    small_result: dlbench.StudyResult,
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len([*(small_result.folder / "tensorboard").iterdir()]) == len(small_result)
    for trial in small_result:
        read = EventAccumulator(str(event_folder(small_result, trial))).Reload()
        for name in Epoch._fields[:4]:  # the trials have no metric of their own
            points = read.Scalars(name.replace("_", "/", 1))
            assert [point.step for point in points] == [1, 2]
            assert [point.value for point in points] == [np.float32(getattr(e, name)) for e in trial.history]
        for tag, figure in FINAL.items():
            (point,) = read.Scalars(tag)
            assert point.value == np.float32(getattr(trial, figure))


def test_tensorboards_hyper_parameter_tab_shows_every_trial(small_result: dlbench.StudyResult) -> None:
    """Through the backend of that tab itself: one session a trial, with its fields and final figures."""
    from tensorboard import context
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

    logs = str(small_result.folder / "tensorboard")
    events = EventMultiplexer().AddRunsFromDirectory(logs)
    events.Reload()
    provider = MultiplexerDataProvider(events, logs)
    backend = backend_context.Context(TBContext(logdir=logs, data_provider=provider))
    asked = context.RequestContext()
    experiment = get_experiment.Handler(
        asked, backend, "", api_pb2.GetExperimentRequest(include_metrics=True)
    ).run()
    tags = [metric.name.tag for metric in experiment.metric_infos]
    assert {*FINAL} <= {*tags}
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING],
        col_params=[
            *(api_pb2.ColParams(hparam=h.name, include_in_result=True) for h in experiment.hparam_infos),
            *(api_pb2.ColParams(metric=m.name, include_in_result=True) for m in experiment.metric_infos),
        ],
        slice_size=100,
        include_metrics=True,
    )
    groups = list_session_groups.Handler(asked, backend, "", request).run().session_groups
    shown = {}
    for group in groups:
        (session,) = group.sessions
        shown[Path(session.name).name] = (
            {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()},
            {value.name.tag: value.value for value in session.metric_values},
        )
    assert len(shown) == len(small_result)
    for trial in small_result:
        fields, figures = shown[event_folder(small_result, trial).name]
        spec = trial.trial.spec.model_dump(exclude={f"{part}_args" for part in PARTS})
        assert fields == {name: value for name, value in spec.items() if value is not None}
        for tag, figure in FINAL.items():
            assert figures[tag] == np.float32(getattr(trial, figure))


def test_the_manifest_tells_what_ran(small_result: dlbench.StudyResult) -> None:
    manifest = json.loads((small_result.folder / "manifest.json").read_text())
    assert manifest["trial_ids"] == [trial.id for trial in small_result]
    assert manifest["packages"]["jax"]
    assert manifest["seeds"] == [0, 1]
    assert manifest["lanes"] == [1]
    assert manifest["device"]["xla_threads"] == 1
    assert set(manifest["split_digests"].values()) == {trial.split_digest for trial in small_result}
    assert manifest["data_digests"] == {"mnist5k": small_result.trials[0].trial.data_digest}


def test_a_loss_that_is_not_finite_diverges_one_trial_and_touches_no_other(
    small_result: dlbench.StudyResult, tmp_path: Path
) -> None:
    study = dlbench.grid(learning_rate=[1e-3, 1e5], optimizer="sgd", **SMALL)
    good, bad = dlbench.run(study, out=tmp_path / "s", workers=1)
    alone = dlbench.run(
        dlbench.grid(learning_rate=1e-3, optimizer="sgd", **SMALL), out=tmp_path / "t"
    ).trials[0]
    assert (bad.status, bad.diverged_epoch, bad.test_accuracy) == (TrialStatus.DIVERGED, 1, None)
    assert good.params_sha256 == alone.params_sha256


@pytest.mark.slow
def test_lanes_do_not_depend_on_neighbours_or_place(
    tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    def train(
        name: str, seeds: list[int], rates: list[float]
    ) -> dict[tuple[int, float], dlbench.TrialResult]:
        study = dlbench.grid(seed=seeds, learning_rate=rates, **SMALL)
        result = dlbench.run(study, lanes=4, workers=1, out=tmp_path / name)
        return {(trial.seed, trial.learning_rate): trial for trial in result}

    full, other = train("full", [0, 1], [1e-3, 1e-2]), train("other", [1, 7, 5], [1e-2])
    assert full[1, 1e-2].params_sha256 == other[1, 1e-2].params_sha256
    assert full[1, 1e-2].id == other[1, 1e-2].id
    solo = {(trial.seed, trial.learning_rate): trial for trial in small_result}
    for key, trial in full.items():
        assert trial.id != solo[key].id
        assert trial.history[0].train_loss == pytest.approx(solo[key].history[0].train_loss, rel=1e-4)


def test_augmented_trials_report_both_accuracies(tmp_path: Path) -> None:
    study = dlbench.grid(transform="augmented", model="linear", **SMALL)
    trial = dlbench.run(study, out=tmp_path / "s").trials[0]
    assert trial.status is TrialStatus.COMPLETE
    assert 0 <= trial.test_accuracy_augmented <= 1
    assert trial.test_accuracy_augmented != trial.test_accuracy


@pytest.mark.slow
def test_trials_are_tested_on_augmented_images_where_asked(tmp_path: Path) -> None:
    trials = dlbench.grid(test_augmented=[False, True], seed=[0, 1], model="linear", **SMALL).trials
    clean, asked, clean_1, asked_1 = dlbench.run(
        dlbench.StudySpec(trials=(trials[0], trials[2], trials[1], trials[3])), out=tmp_path / "s"
    )
    assert len(dlbench.plan(dlbench.StudySpec(trials=trials)).programs) == 1
    assert clean.test_accuracy_augmented is None
    assert clean_1.test_accuracy_augmented is None
    assert asked.test_accuracy_augmented not in (None, asked.test_accuracy)
    assert asked_1.test_accuracy_augmented is not None
    assert asked.params_sha256 == clean.params_sha256
    assert asked.id != clean.id


def test_a_killed_worker_is_replaced_and_its_trial_tried_again(
    small_result: dlbench.StudyResult, small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_once(event: object) -> None:
        if isinstance(event, messages.EpochEnded) and not killed:
            killed.append(_children(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)

    two = small_study.model_copy(update={"trials": small_study.trials[:2]})
    result = dlbench.run(two, workers=1, out=tmp_path / "s", on_event=kill_once)
    assert killed
    assert len(digests(result)) == 2
    assert digests(result).items() <= digests(small_result).items()


@pytest.mark.slow  # test_kills.py kills a study three times
def test_a_killed_study_is_taken_up_again(
    small_result: dlbench.StudyResult, small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    code = textwrap.dedent(
        f"""
        import dlbench
        study = dlbench.grid(model="baseline", learning_rate=[1e-3, 1e-2], seed=[0, 1], **{SMALL!r})
        dlbench.run(study, workers=2, out={str(tmp_path / "s")!r},
                    on_event=lambda event: print(type(event).__name__, flush=True))
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    finished = (line for line in process.stdout if line.startswith("Finished"))
    next(finished)
    workers = _children(process.pid)
    process.kill()
    process.wait()
    _wait(lambda: not any(map(_alive, workers)))
    kept = [trial for trial in dlbench.open_study(tmp_path / "s") if trial.status is TrialStatus.COMPLETE]
    assert kept
    again = dlbench.run(small_study, out=tmp_path / "s")
    assert digests(again) == digests(small_result)
    (same,) = (trial for trial in again if trial.id == kept[0].id)
    share = {"compile_time_s": None}  # of a program that more trials have shared since
    assert {**same.outcome, **share} == {**kept[0].outcome, **share}
    assert same.history == kept[0].history


def test_a_second_writer_is_refused(small_result: dlbench.StudyResult) -> None:
    from dlbench.storage.store import Store

    with Store(small_result.folder, write=True), pytest.raises(dlbench.StoreError, match="another process"):
        Store(small_result.folder, write=True)


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path, small_study: dlbench.StudySpec) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("precious")
    with pytest.raises(dlbench.StoreError, match="holds no study"):
        dlbench.run(small_study, out=tmp_path / "foreign")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(dlbench.StoreError, match="cannot be used"):
        dlbench.run(small_study, out=tmp_path / "damaged")
    (tmp_path / "newer").mkdir()
    with sqlite3.connect(tmp_path / "newer" / "study.sqlite") as db:
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        db.execute("INSERT INTO meta VALUES ('schema_version', '99')")
    with pytest.raises(dlbench.StoreError, match="schema version 99"):
        dlbench.run(small_study, out=tmp_path / "newer")
    assert (tmp_path / "foreign" / "thesis.tex").read_text() == "precious"


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mymodels.py").write_text(
        textwrap.dedent(
            """
            import flax.linen as nn
            import dlbench

            @dlbench.register_model("my-mlp")
            class MyMLP(nn.Module):
                num_classes: int = 10
                width: int = 16

                @nn.compact
                def __call__(self, x):
                    x = nn.relu(nn.Dense(self.width)(x.reshape(x.shape[0], -1)))
                    return nn.Dense(self.num_classes)(x)

            class TooFew(nn.Module):
                num_classes: int = 10

                @nn.compact
                def __call__(self, x):
                    return nn.Dense(3)(x.reshape(x.shape[0], -1))

            class Raises(nn.Module):
                num_classes: int = 10

                @nn.compact
                def __call__(self, x):
                    raise RuntimeError("not today")
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    study = dlbench.grid(model=["mymodels:MyMLP", "mymodels:TooFew", "mymodels:Raises"], **SMALL)
    fine, few, raises = dlbench.run(study, out=tmp_path / "s", workers=1)
    assert fine.status is TrialStatus.COMPLETE
    assert fine.num_params == 784 * 16 + 16 + 160 + 10
    assert fine.load().test_accuracy() == fine.test_accuracy
    assert few.status is TrialStatus.FAILED
    assert "expected float logits of shape (2, 10)" in few.error
    assert "not today" in raises.error
    before = fine.id
    source = tmp_path / "mymodels.py"
    source.write_text(source.read_text().replace("width: int = 16", "width: int = 17"))
    assert dlbench.plan(dlbench.grid(model="mymodels:MyMLP", **SMALL)).trials[0].id != before


def test_foreign_code_named_by_a_stored_study_alone_is_not_run(tmp_path: Path) -> None:
    spec = dlbench.TrialSpec(model="somebodys.code:Model", **SMALL)
    with pytest.raises(dlbench.InputError, match="name it yourself"):
        dlbench.run(dlbench.StudySpec(trials=(spec,)), out=tmp_path / "s")


def test_a_study_written_by_hand_may_name_models_as_people_do() -> None:
    by_hand = dlbench.StudySpec(trials=(dlbench.TrialSpec(model="high_vision", **SMALL),))
    by_grid = dlbench.grid(model="High-Vision", **SMALL)
    assert dlbench.plan(by_hand).trials == dlbench.plan(by_grid).trials


def test_a_data_set_of_ones_own(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 220)
    images = (draw.integers(0, 60, (220, 12, 12)) + 150 * labels[:, None, None]).astype(np.uint8)
    mine = dlbench.from_arrays("bright", images[:160], labels[:160], images[160:], labels[160:])
    study = dlbench.grid(
        dataset=mine, model="linear", learning_rate=1e-2, train_size=96, val_size=32, num_epochs=3
    )
    trial = dlbench.run(study, out=tmp_path / "s").trials[0]
    assert trial.test_accuracy > 0.95


CASES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["baseline", "stabilized"]),
        "learning_rate": st.lists(st.sampled_from([1e-4, 1e-3, 1e-2]), min_size=1, max_size=2, unique=True),
        "weight_decay": st.sampled_from([0.0, 1e-2]),
        "seed": st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=2, unique=True),
        "workers": st.sampled_from([1, 2]),
        "shuffle": st.randoms(use_true_random=False),
    }
)


@pytest.mark.slow  # test_bits.py promises the same of more grids, in workers that live on
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES)
def test_bits_do_not_depend_on_the_grid(
    case: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every trial of a random grid, in random order, has the digests it has when it runs alone."""
    workers, shuffle = case.pop("workers"), case.pop("shuffle")
    assert isinstance(workers, int)
    assert isinstance(shuffle, random.Random)
    trials = list(dlbench.grid(**case, **SMALL).trials)
    shuffle.shuffle(trials)
    folder = tmp_path_factory.mktemp("cases")
    together = dlbench.run(dlbench.StudySpec(trials=tuple(trials)), workers=workers, out=folder / "all")
    chosen = shuffle.choice(trials)
    alone = dlbench.run(dlbench.StudySpec(trials=(chosen,)), workers=1, out=folder / "one")
    assert digests(alone).items() <= digests(together).items()


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    tasks = Path(f"/proc/{pid}/task")
    if not path.exists():
        pytest.skip("needs /proc to find worker processes")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def _wait(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_processes_of_two_versions_do_not_wait_for_each_other() -> None:
    command = [sys.executable, "-P", "-m", "dlbench.execution.worker"]
    setup = messages.Setup(worker=0, data_dir=None, checkpoint_every=None, sys_path=())
    said = subprocess.run(
        command,
        input=messages.encode(setup) + b'{"sizes": {}, "message": {"type": "of a later version"}}\n',
        capture_output=True,
        timeout=60,
    )
    assert said.returncode == 1
    assert b"does not understand its parent" in said.stderr
