"""Reports: studies as text and back, the command that makes them, and the ones that are checked in."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from test_cli import TINY, Cli, cli  # noqa: F401

import dlbench
from dlbench import report
from dlbench.analysis.looks import study_alpha
from dlbench.analysis.protocols import components_of
from dlbench.errors import StoreError
from dlbench.report import exports
from dlbench.report.document import MARKER
from dlbench.studies.result import StudyResult

ROOT = Path(__file__).parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def exported(small_result: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "small"
    exports.export(small_result.folder, folder)
    return folder


@pytest.fixture
def own(exported: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(exported, tmp_path / "small"))


def test_an_export_holds_the_study_and_reads_back_as_it(exported: Path, small_result: StudyResult) -> None:
    assert {p.name for p in exported.iterdir()} == {
        "trials.csv",
        "history.csv",
        "manifest.json",
        "report.md",
        "figures",
    }
    found = exports.read(exported).result
    assert found is not None
    assert found.spec.kind == small_result.spec.kind
    assert [t.to_dict(history=False) for t in found] == [t.to_dict(history=False) for t in small_result]
    assert report.to_markdown(report.study_report(found).findings) == report.to_markdown(
        report.study_report(small_result).findings
    )
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["trial_ids"] == [t.id for t in small_result]
    assert "config" not in manifest


def test_histories_are_means_over_seeds(exported: Path, small_result: StudyResult) -> None:
    rows = exports._rows(exported / "history.csv")
    assert len(rows) == 2 * SMALL["num_epochs"]
    first = [t for t in small_result if t.learning_rate == 1e-3]
    losses = [t.history[0].val_loss for t in first]
    row = rows[0]
    assert (row["learning_rate"], row["epoch"], row["seeds"], row["trial"]) == (
        "0.001",
        "1",
        "2",
        first[0].id,
    )
    assert float(row["val_loss_mean"]) == pytest.approx(sum(losses) / 2, rel=1e-12)
    assert float(row["val_loss_low"]) < min(losses)


def test_a_trial_without_other_seeds_keeps_its_history(
    small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    alone = small_study.model_copy(update={"trials": small_study.trials[:1]})
    trained = dlbench.run(alone, out=tmp_path / "s")
    found = exports.export(tmp_path / "s", tmp_path / "e").result
    assert found is not None
    assert found.trials[0].history == trained.trials[0].history


def test_exporting_again_changes_no_byte(own: Path, small_result: StudyResult) -> None:
    before = contents(own)
    (own / "notes.md").write_text("By *hand*.\n")
    (own / "study.yaml").write_text("lr: 1\n")
    exports.export(small_result.folder, own)
    after = contents(own)
    assert after.pop("notes.md") == b"By *hand*.\n"
    assert b"\n\nBy *hand*.\n\n" in after["report.md"]
    assert {**after, "report.md": b""} == {**before, "report.md": b""}


@pytest.mark.slow
def test_what_test_images_add_to_the_variance_needs_no_logits(
    small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    seeds = [{"init_seed": i, "order_seed": j} for i in range(2) for j in range(2)]
    crossed = [small_study.trials[0].model_copy(update=each) for each in seeds]
    trained = dlbench.run(small_study.model_copy(update={"trials": tuple(crossed)}), out=tmp_path / "s")
    (found,) = components_of(trained.trials)
    exported = exports.export(tmp_path / "s", tmp_path / "e").result
    assert exported is not None
    (read,) = components_of(exported.trials, known=exported.right)
    assert read.components == found.components
    assert "| test images |" in (tmp_path / "e" / "report.md").read_text()
    assert components_of(exported.trials)[0].right == ()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (",0.001,", ",0.002,", "its fields have the id"),
        (",COMPLETE,", ",FINISHED,", "FINISHED"),
        (",adam,", ",tiger,", "a field is wrong"),
        (",data_digest,", ",digest,", "data_digest"),
        (",test_loss,", ",loss,", "test_loss"),
    ],
)
def test_what_was_changed_is_refused(own: Path, old: str, new: str, named: str) -> None:
    path = own / "trials.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(StoreError, match=named):
        exports.read(own)


def test_other_damage_is_refused(own: Path) -> None:
    (own / "manifest.json").write_text("[]")
    with pytest.raises(StoreError, match="not a manifest"):
        exports.read(own)
    (own / "manifest.json").write_text('{"kind": "sweep"}')
    with pytest.raises(StoreError, match="not a manifest"):
        exports.read(own)
    (own / "manifest.json").unlink()
    assert exports.read(own).manifest == {}
    (own / "trials.csv").write_bytes(b"\xff")
    with pytest.raises(StoreError, match="UTF-8"):
        exports.read(own)
    (own / "trials.csv").write_text("id\n")
    with pytest.raises(StoreError, match="no trial"):
        exports.read(own)


def test_a_study_that_grows_is_judged_at_the_level_of_its_look(own: Path) -> None:
    path = own / "manifest.json"
    manifest = json.loads(path.read_text())
    assert (manifest["kind"], manifest["looks"]) == ("grid", [])
    levels = []
    for looks in ([], [2, 4], [5, 10]):
        path.write_text(json.dumps(manifest | {"looks": looks}))
        found = exports.read(own).result
        assert found is not None
        assert found.spec.looks == tuple(looks)
        levels.append(study_alpha(found))
    assert levels[0] == 0.05
    assert 0 < levels[1] < 0.05
    assert levels[2] == 0, "nothing is judged before the first look"


def test_only_an_export_of_the_same_study_is_replaced(
    own: Path, small_result: StudyResult, small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="not an exported study"):
        exports.export(small_result.folder, foreign)
    assert contents(foreign) == {"thesis.txt": b"mine"}
    fewer = small_study.model_copy(update={"trials": small_study.trials[:1]})
    dlbench.run(fewer, out=tmp_path / "fewer")
    before = contents(own)
    with pytest.raises(StoreError, match="another study"):
        exports.export(tmp_path / "fewer", own)
    assert contents(own) == before


def test_the_command_regenerates_from_text_alone(cli: Cli, small_result: StudyResult, tmp_path: Path) -> None:  # noqa: F811
    shutil.copytree(small_result.folder, "runs/tiny")
    first = cli("report", "tiny", "--out", "text")
    assert (first.code, first.err) == (0, "")
    assert first.out.split() == ["text/tiny", "text/report.md", "text/report.html"]
    before = contents(Path("text"))
    assert before["report.md"].startswith(MARKER.encode())
    assert b"](tiny/figures/seeds.svg)" in before["report.md"]
    assert MARKER.encode() in before["report.html"].splitlines()[1]
    shutil.rmtree("runs")
    assert cli("report", "text/tiny", "--out", "text").code == 0
    assert contents(Path("text")) == before


def test_notes_alone_are_a_section(cli: Cli, own: Path) -> None:  # noqa: F811
    Path("00-speed").mkdir()
    Path("00-speed/notes.md").write_text("# Speed\n\nFast, [see](x/y.md#z).\n\n| a |\n|---|\n| 1 |\n")
    assert cli("report", "00-speed", "small", "--markdown", "all.md", "--html", "page/all.html").code == 0
    text = Path("all.md").read_text()
    assert (
        "# All\n\n## Speed\n\nFast, [see](00-speed/x/y.md#z).\n\n[All of it](00-speed/notes.md)\n\n## Small\n"
        in text
    )
    assert "](small/figures/seeds.svg)" in text
    assert "[All tables, figures and trials](small/report.md)" in text
    assert "trials.csv" not in text, "that is on the page of the study"
    assert "(trials.csv)" in Path("small/report.md").read_text()
    assert not Path("report").exists()
    assert [*Path("00-speed").iterdir()] == [Path("00-speed/notes.md")]
    alone = cli("report", "00-speed")
    assert alone.code == 2
    assert "only notes" in alone.err


def test_what_others_wrote_is_not_replaced(cli: Cli, own: Path) -> None:  # noqa: F811
    Path("README.md").write_text("# Mine\n")
    found = cli("report", "small", "--markdown", "README.md")
    assert found.code == 2
    assert "README.md was not written by 'dlbench report'" in found.err
    assert Path("README.md").read_text() == "# Mine\n"
    assert not Path("report").exists()
    assert "cannot be replaced" in cli("report", "small", "--html", "small").err
    assert "cannot be written" in cli("report", "small", "--html", "README.md/x.html").err


def test_studies_that_are_not_there_or_of_one_name(cli: Cli, own: Path) -> None:  # noqa: F811
    assert "Missing argument 'STUDY...'" in cli("report").err
    assert "unknown study 'smal'" in cli("report", "smal").err
    found = cli("report", "small", "./small")
    assert (found.code, "two studies are called small" in found.err) == (2, True)


CONFIG = """\
description: Does a learning rate of 1e-3 suit?
lr: [1e-3, 1e-2]
seeds: 2
claims:
  - says: 1e-3 is better than 1e-2
    better: {lr: 1e-3}
    than: {lr: 1e-2}
"""


def test_claims_travel_with_the_study(cli: Cli, small_result: StudyResult) -> None:  # noqa: F811
    text = CONFIG + "".join(f"{name}: {value}\n" for name, value in SMALL.items())
    Path("claim.yaml").write_text(text)
    ran = cli("run", "claim.yaml", "--name", "claimed", "--quiet", "--json")
    assert ran.code == 0, ran.err
    record: dict[str, Any] = json.loads(ran.out)
    assert {t["id"] for t in record["trials"]} == {t.id for t in small_result}, "ids know nothing of claims"
    Path("claim.yaml").unlink()
    assert cli("report", "claimed").code == 0
    assert Path("report/claimed/study.yaml").read_text() == text
    written = Path("report/report.md").read_text()
    assert "Does a learning rate of 1e-3 suit?" in written
    assert "| “1e-3 is better than 1e-2” |" in written
    assert "Of 1 claim, 1 is" in written
    assert "Does a learning rate of 1e-3 suit?" in Path("report/report.html").read_text()
    Path("report/claimed/study.yaml").write_text(text.replace("1e-3}", "1e-3, lrr: 1}"))
    found = cli("report", "report/claimed")
    assert (found.code, "study.yaml:6: unknown key 'lrr'" in found.err) == (2, True)


def test_a_claim_about_other_trials_is_refused_before_anything_is_trained(cli: Cli) -> None:  # noqa: F811
    Path("claim.yaml").write_text(CONFIG.replace("than: {lr: 1e-2}", "than: {lr: 1e-4}"))
    for command in ("run", "plan"):
        found = cli(command, "claim.yaml", *TINY)
        assert found.code == 2
        assert (
            "claim.yaml:7: this selects no trial of the study; learning_rate is 0.001, 0.01 there"
            in found.err
        )
    assert not Path("runs").exists()


def test_the_checked_in_report_is_made_from_the_checked_in_studies(cli: Cli) -> None:  # noqa: F811
    shutil.copytree(ROOT / "experiments", "experiments")
    studies = sorted(p for p in Path("experiments").iterdir() if p.is_dir())
    assert any((path / "trials.csv").is_file() for path in studies)
    before = {name: content for name, content in contents(Path("experiments")).items() if "/" in name}
    found = cli(
        "report", *map(str, studies), "--markdown", "benchmarks.md", "--html", "experiments/benchmarks.html"
    )
    assert found.code == 0, found.err
    for name in ("benchmarks.md", "experiments/benchmarks.html"):
        assert Path(name).read_bytes() == (ROOT / name).read_bytes(), (
            f"{name} is not what 'dlbench report experiments/[01]* --markdown benchmarks.md --html "
            "experiments/benchmarks.html' writes"
        )
    after = {name: content for name, content in contents(Path("experiments")).items() if "/" in name}
    assert after == before, "exported studies are only read, and their pages are up to date"


def test_the_study_of_an_export_says_so(exported: Path) -> None:
    found = exports.read(exported)
    assert found.title == "Small"
    titled = dataclasses.replace(found, folder=Path("experiments/02-weight-decay"))
    assert titled.title == "Weight decay"


def test_a_trial_of_an_exported_study_is_trained_again(own: Path, cli: Cli) -> None:  # noqa: F811
    trial = exports.read(own).result.trials[1]
    again = cli("replay", str(own), trial.id[:8])
    assert again.code == 0, again.err
    assert again.out.startswith(f"IDENTICAL: trial {trial.id}")


@pytest.mark.slow
def test_a_changed_trial_of_an_exported_study_is_different(own: Path, cli: Cli) -> None:  # noqa: F811
    trial = exports.read(own).result.trials[1]
    table = own / "trials.csv"
    table.write_text(table.read_text().replace(trial.history_sha256, "0" * 64))
    changed = cli("replay", str(own), trial.id)
    assert changed.code == 1
    assert "first difference: history_sha256" in changed.out
