"""The command line: starting it, reading it, refusing what is wrong, and printing what was found."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import SMALL

import dlbench
from dlbench.cli import main, queries, studies
from dlbench.cli.options import DEFAULTS, FLAGS, PART_FIELDS, StudyOptions, split_values
from dlbench.errors import InputError
from dlbench.report.tables import Made
from dlbench.spec.registry import MODELS
from dlbench.spec.trial import PARTS, TrialSpec
from dlbench.studies import listing

COMMANDS = (
    "train",
    "grid",
    "compare-archs",
    "run",
    "plan",
    "results",
    "results rm",
    "results mv",
    "results gc",
    "compare",
    "report",
    "bench",
    "info",
    "data",
    "data show",
    "data prepare",
)
TINY = [f"{FLAGS[name]}={value}" for name, value in SMALL.items()]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*args: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["dlbench", *args])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return Outcome(int(caught.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def written(tmp_path: Path) -> Callable[[], list[str]]:
    """The names of what lies in the folder that commands run in."""
    return lambda: sorted(path.name for path in tmp_path.iterdir())


def python(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=120, **options)


# Starting.


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['dlbench', 'grid', '--help']\nfrom dlbench.cli import main\ntry: main()\nfinally: "
    code += "print({'jax', 'numpy', 'scipy', 'pandas', 'rich', 'dlbench.spec.trial'} & {*sys.modules}, file=sys.stderr)"
    done = python("-c", code)
    assert (done.returncode, done.stderr.strip()) == (0, "set()")
    assert "dlbench grid --lr 1e-3 1e-2" in done.stdout


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_shows_an_example(cli: Cli, command: str) -> None:
    found = cli(*command.split(), "--help")
    assert found.code == 0
    heading = "Example" if command else "Examples"
    assert f"{heading}:\n    dlbench {command}".rstrip() in found.out


def test_version_completion_and_module() -> None:
    assert python("-m", "dlbench", "--version").stdout == f"dlbench {dlbench.__version__}\n"
    environ = {
        **os.environ,
        "_DLBENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": "dlbench co",
        "COMP_CWORD": "1",
    }
    done = python("-c", "from dlbench.cli import main; main()", env=environ)
    assert sorted(done.stdout.split()) == ["compare", "compare-archs"]


def test_the_help_tells_the_fields_and_their_defaults() -> None:
    """They are written out in options.py because importing the spec for ``--help`` takes too long."""
    assert [*DEFAULTS] == [
        name for name in StudyOptions.__dataclass_fields__ if name in TrialSpec.model_fields
    ]
    assert {*TrialSpec.model_fields} - {*DEFAULTS} == {f"{part}_args" for part in PART_FIELDS}
    assert [*PARTS] == [*PART_FIELDS]
    usual = TrialSpec()
    for name, shown in DEFAULTS.items():
        value = getattr(usual, name)
        assert value is None or name == "fold" or TrialSpec(**{name: shown}) == usual
    options = {name: hint.__metadata__[0] for name, hint in _hints(StudyOptions).items()}
    assert {name: options[name].default for name in DEFAULTS} == {name: FLAGS[name] for name in DEFAULTS}
    assert studies.COMPARE_DEFAULTS["model"] == [
        "SimpleCNN",
        "Baseline",
        "Stabilized",
        "High-Vision",
        "Modernist",
    ]


def _hints(record: type) -> dict[str, Any]:
    from typing import get_type_hints

    return get_type_hints(record, include_extras=True)


# Reading.


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--lr 1 2 --json", "--lr 1 --lr 2 --json"),
        ("--lr 1,2 --lr 3", "--lr 1 --lr 2 --lr 3"),
        ("--lr=1,2 3", "--lr 1 --lr 2 --lr 3"),
        ("--lr -1 -.5 -1e-3 -inf", "--lr -1 --lr -.5 --lr -1e-3 --lr -inf"),
        ("--lr -1,-2", "--lr -1 --lr -2"),
        ("--out a --lr 1", "--out a --lr 1"),
        ("target --lr 1", "target --lr 1"),
        ("--lr 1 --unknown x", "--lr 1 --unknown x"),
        ("--model a b -- c", "--model a --model b -- c"),
    ],
)
def test_several_values_after_one_flag(args: str, expected: str) -> None:
    assert split_values(args.split(), {"--lr", "--model"}) == expected.split()


@pytest.mark.parametrize("args", ["--lr", "--lr --json", "--lr --model a"])
def test_a_flag_without_a_value(args: str) -> None:
    with pytest.raises(InputError, match="--lr has no value"):
        split_values(args.split(), {"--lr", "--model"})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["grid", "--lr", "fast"], ["--lr", "number", "'fast'"]),
        (["grid", "--lr", "-1"], ["--lr", "greater than 0", "'-1'"]),
        (["grid", "--lr", "nan"], ["--lr", "finite", "nan"]),
        (["grid", "--lr"], ["--lr has no value", "--help"]),
        (["grid", "--lr", "1e-3", "0.001"], ["--lr", "twice", "0.001"]),
        (["grid", "--epochs", "0"], ["--epochs", "greater than or equal to 1", "'0'"]),
        (["grid", "--batch-size", "1.5"], ["--batch-size", "1.5"]),
        (["grid", "--batch-size", "64", "--train-size", "32"], ["--batch-size 64", "32 images", "smaller"]),
        (["grid", "--dropout", "1"], ["--dropout", "less than 1", "'1'"]),
        (
            ["grid", "--optimizer", "adan"],
            ["--optimizer", "'adan'. Did you mean 'adam'? Known: adam, adamw, sgd,"],
        ),
        (["grid", "--model", "basline"], ["--model", "'basline'", "Did you mean 'Baseline'?"]),
        (["grid", "--model", "no.such:Net"], ["'no.such:Net'", "install it"]),
        (["grid", "--dataset", "mnits"], ["--dataset", "'mnits'", "Did you mean 'mnist'?"]),
        (["grid", "--train-size", "5000"], ["--train-size 5,000", "4,000 images", "smaller"]),
        (["grid", "--seeds", "0"], ["--seeds", "got 0", "from 1"]),
        (["grid", "--seeds", "9999999999999"], ["--seeds", "100,000"]),
        (["grid", "--seeds", "2", "--seed", "1"], ["--seeds 2", "--seed", "one of them"]),
        (["grid", "--workers", "x"], ["--workers", "'x'", "number"]),
        (["grid", "--workers", "-1"], ["--workers", "-1"]),
        (["grid", "--lanes", "some"], ["--lanes", "'some'", "auto"]),
        (["grid", "--device", "abacus"], ["--device", "'abacus'", "cpu"]),
        (["grid", "--device", "cuda"], ["--device", "'cuda'", "use 'gpu'"]),
        (["grid", "--device", "tpu"], ["--device tpu", "pip install"]),
        (["grid", "--out", "a", "--name", "b"], ["--out a", "--name b"]),
        (["grid", "--name", "../b"], ["--name", "'../b'", "--out"]),
        (["grid", "--out", "full"], ["full", "holds no study", "--out"]),
        (["grid", "--config", "none.yaml"], ["none.yaml", "No such file"]),
        (
            ["grid", "--modle", "x"],
            ["unknown option '--modle'. Did you mean '--model'? See 'dlbench grid --help'"],
        ),
        (["grid", "--horizon", "x"], ["unknown option '--horizon'.", "See 'dlbench grid --help'"]),
        (["grid", "–seeds", "3"], ["not a hyphen", "use --seeds"]),
        (["results", "--format", "tabel"], ["--format", "'tabel'. Did you mean 'table'?"]),
        (["trian"], ["unknown command 'trian'. Did you mean 'train'?"]),
        (["grid", "--seeds", "500", "--epochs", "900"], ["500 trials", " h ", "--yes"]),
        (["compare-archs", "--model", "baseline"], ["--model Baseline", "two models"]),
        (["run"], ["CONFIG.yaml"]),
        (["run", "none"], ["study 'none'"]),
        (["run", "a.yaml", "--config", "b.yaml"], ["a.yaml", "--config b.yaml"]),
        (["results", "none"], ["study 'none'"]),
        (["results", "--sort", "x"], ["unknown field 'x'", "test_accuracy"]),
        (["results", "--check"], ["--check need a study"]),
        (["results", "x", "--by", ""], ["--by is empty; give a value, or leave it out"]),
        (["results", "x", "--sort", " "], ["--sort is empty"]),
        (["results", "x", "--filter", "lr=0.1", ""], ["--filter is empty"]),
        (["results", ""], ["STUDY is empty"]),
        (["results", "x", "--filter", "lr="], ["FIELD=VALUE", "'lr='"]),
        (["results", "x", "--plot", "--by", "class"], ["--plot cannot be combined with --by"]),
        (["results", "x", "--check", "--sort", "lr"], ["--check cannot be combined with --sort"]),
        (["results", "x", "--check", "--format", "csv"], ["--check cannot be combined with --format csv"]),
        (["results", "x", "--json", "--format", "csv"], ["--json cannot be combined with --format csv"]),
        (["card", "x", "y", "--out", ""], ["--out is empty"]),
        (["report", "x", "--markdown", "a.md", "--html", "./a.md"], ["--markdown and --html both name a.md"]),
        (["data", "--data-dir", ""], ["--data-dir is empty"]),
        (["data", "--json", "show", "mnist"], ["--json goes after show"]),
        (["grid", "--out", "a\nb"], ["--out must be printable text"]),
        (["results", "rm", "none"], ["study 'none'"]),
        (["results", "mv", "none"], ["'NAME'"]),
        (["results", "gc", "none"], ["study 'none'"]),
        (["data", "show", "mnits"], ["'mnits'", "'mnist'"]),
        (["explain"], ["unknown command 'explain'.", "Known: train, grid"]),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_written(
    cli: Cli, written: Callable[[], list[str]], tmp_path: Path, args: list[str], words: list[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    found = cli(*args)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith("Error: ")
    assert found.err.count("\n") == 1
    for word in words:
        assert word in found.err
    assert written() == ["full"]


def test_internal_errors_show_no_traceback_unless_asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "list_studies", lambda root: 1 / 0)
    found = cli("results")
    assert found.code == 1
    assert found.err.startswith("Error: internal error, please report it: ZeroDivisionError")
    assert "Traceback" not in found.err
    monkeypatch.setenv("DLBENCH_DEBUG", "1")
    assert "Traceback" in cli("results").err


# Planning.


def planned(cli: Cli, *args: str) -> dict[str, Any]:
    found = cli(*args, "--json")
    assert found.code == 0, found.err
    record: dict[str, Any] = json.loads(found.out)
    return record


def test_a_plan_is_the_product_and_writes_nothing(cli: Cli, written: Callable[[], list[str]]) -> None:
    args = ["--lr", "1e-3", "1e-2", "--batch-size=8,16", "--seeds", "3", "--epochs", "2"]
    for command in (["plan"], ["grid", "--dry-run"]):
        record = planned(cli, *command, *args)
        trials = record["trials"]
        assert len({(t["learning_rate"], t["batch_size"], t["seed"]) for t in trials}) == len(trials) == 12
        assert record["study"]["num_programs"] == 2, "batch size is static; learning rate and seed are not"
        assert record["study"]["estimate_s"] > 0
        assert record["study"]["folder"].startswith("runs/grid-")
    text = cli("plan", *args).out
    assert "12 trials in 2 programs; 0 done, 12 to train" in text
    assert record["study"]["folder"] in text
    assert written() == []


def test_compare_archs_takes_its_defaults_and_flags_override_them(cli: Cli) -> None:
    trials = planned(cli, "compare-archs", "--dry-run")["trials"]
    assert len(trials) == 25
    assert {trial["schedule"] for trial in trials} == {"cosine"}
    assert {trial["model"] for trial in trials} == {*MODELS.compared}
    trials = planned(cli, "compare-archs", "--model", "baseline", "modernist", "--seeds", "2", "--dry-run")[
        "trials"
    ]
    assert {(trial["model"], trial["seed"]) for trial in trials} == {
        (model, seed) for model in ("Baseline", "Modernist") for seed in (0, 1)
    }
    assert {trial["train_size"] for trial in trials} == {*studies.COMPARE_DEFAULTS["train_size"]}


def test_train_takes_the_first_of_several_values_and_says_so(cli: Cli) -> None:
    found = cli("train", "--lr", "1e-2", "1e-3", "--seed", "4", "--dry-run", "--json")
    (trial,) = json.loads(found.out)["trials"]
    assert (trial["learning_rate"], trial["seed"]) == (0.01, 4)
    assert found.err.startswith("Warning: ")
    assert "--lr 1e-2 1e-3" in found.err
    assert "--seed " not in found.err


def test_flags_override_the_file_and_the_command_its_kind(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "kind: compare-archs\nmodel: [baseline, modernist]\nlr: [1e-3, 1e-2]\nseeds: 2\nepochs: 4\n"
    )
    record = planned(cli, "run", "study.yaml", "--lr", "0.5", "--dry-run")
    assert (record["study"]["kind"], len(record["trials"])) == ("compare-archs", 4)
    assert {(t["learning_rate"], t["num_epochs"]) for t in record["trials"]} == {(0.5, 4)}
    assert record["trials"] == planned(cli, "plan", "study.yaml", "--lr", "0.5")["trials"]
    assert planned(cli, "grid", "--config", "study.yaml", "--dry-run")["study"]["kind"] == "grid"


def test_one_trial_does_not_come_from_several_grids(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("grids:\n  - lr: 1e-3\n  - lr: 1e-2\n")
    found = cli("train", "--config", "study.yaml")
    assert (found.code, "2 grids" in found.err) == (2, True)


# Training, for real.


def test_a_grid_is_trained_once_and_read_in_every_form(cli: Cli) -> None:
    args = ["grid", "--lr", "1e-3", "1e-2", *TINY]
    first = cli(*args)
    assert first.code == 0, first.err
    assert "Highest validation accuracy: lr 0.0" in first.out
    assert "2 trials to train" in first.err
    assert "\x1b" not in first.out + first.err
    again = cli(*args, "--json")
    record = json.loads(again.out)
    assert again.err == "", "nothing is left to train"
    assert [trial["learning_rate"] for trial in record["trials"]] == [0.001, 0.01]
    needed = "id model dataset learning_rate batch_size optimizer weight_decay seed criterion transform num_epochs "
    needed += "status num_params best_val_accuracy best_epoch convergence_epoch test_accuracy test_loss train_time_s "
    needed += "compile_time_s params_sha256 history"
    for trial in record["trials"]:
        assert {*needed.split()} <= {*trial}
        assert trial["id"] in first.out
        assert len(trial["history"]) == 2
    folder = record["study"]["folder"]
    assert planned(cli, "plan", *args[1:])["study"]["num_done"] == 2
    name = Path(folder).name
    assert name in cli("results").out
    assert json.loads(cli("results", "--json").out)["studies"][0]["complete"] == 2
    assert json.loads(cli("results", name, "--json").out)["trials"] == record["trials"]
    kept = json.loads(cli("results", folder, "--json", "--filter", "lr>0.005", "model=base-line").out)[
        "trials"
    ]
    assert [trial["learning_rate"] for trial in kept] == [0.01]
    rows = list(csv.DictReader(io.StringIO(cli("results", name, "--format", "csv", "--sort", "-lr").out)))
    assert [row["learning_rate"] for row in rows] == ["0.01", "0.001"]
    chosen = cli("results", name, "--filter", "test_accuracy>0")
    assert "not compared" in chosen.out
    assert "Highest" not in chosen.out
    markdown = cli("results", name, "--format", "markdown").out
    assert record["trials"][0]["id"] in markdown
    assert "| --: |" in markdown
    for bad, word in (
        ("lr", "FIELD=VALUE"),
        ("lr=x", "'x'"),
        ("lr<nan", "lr<nan: learning_rate must be compared with a number"),
        ("lrr=1", "'lrr'"),
        ("status<1", "not a number"),
    ):
        found = cli("results", name, "--filter", bad)
        assert (found.code, word in found.err) == (2, True)
    checked = json.loads(cli("results", name, "--check", "--json").out)
    assert checked == {"study": f"runs/{name}", "undamaged": True, "problems": []}
    resumed = cli("run", name)
    assert (resumed.code, resumed.err) == (0, "")
    assert resumed.out.split("\n\n")[:-1] == first.out.split("\n\n")[:-1], "all but the time it took"
    refused = cli("run", name, "--lr", "0.1")
    assert (refused.code, "--lr cannot change" in refused.err) == (2, True)
    assert cli("run", name, "--lr", "0.1").err.count("\n") == 1


def test_a_failed_trial_is_listed_and_the_rest_is_reported(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own_nets.py").write_text(
        "import flax.linen as nn\n"
        "class Wrong(nn.Module):\n"
        "    num_classes: int\n"
        "    def __call__(self, x, train=False):\n"
        "        return x\n"
    )
    found = cli(
        "grid", "--model", "own_nets:Wrong", "baseline", "--name", "mixed", "--json", "--quiet", *TINY
    )
    assert found.code == 1
    trials = {trial["model"]: trial for trial in json.loads(found.out)["trials"]}
    assert (trials["own_nets:Wrong"]["status"], trials["Baseline"]["status"]) == ("FAILED", "COMPLETE")
    assert trials["own_nets:Wrong"]["id"] in found.err
    assert "1 trial failed" in found.err
    assert "logits" in found.err
    assert "Traceback" not in found.err


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "dlbench",
        "grid",
        "--lr",
        "1e-3",
        "--seeds",
        "2",
        "--epochs",
        "2000",
        *TINY[:3],
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "2 trials to train" in process.stderr.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted: 0 of 2 trials are done and kept in runs/grid-" in err
    assert "To continue: dlbench grid --lr 1e-3 --seeds 2 --epochs 2000" in err
    assert "Traceback" not in err


def test_a_closed_pipe_is_no_error_to_show(tmp_path: Path) -> None:
    code = "import os, sys; from dlbench.cli import main; os.close(0); main(['data'])"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1


# Looking.


def test_info_and_data(cli: Cli, cache: Path) -> None:
    record = json.loads(cli("info", "--json").out)
    assert record["jax"]["devices"]
    assert record["packages"]["jax"]
    assert any(entry["folder"].startswith(str(cache)) for entry in record["caches"])
    text = cli("info").out
    assert "Packages" in text
    assert (record["jax"]["kernels"] or "none: no C compiler") in text
    assert "mnist5k is ready: 4,000 + 1,000 images" in cli("data", "prepare", "MNIST-5k").out
    assert "6573c5ea191e" in cli("data", "show", "mnist5k").out
    sets = {entry["name"]: entry for entry in json.loads(cli("data", "--json").out)["datasets"]}
    assert sets["mnist5k"]["prepared"]
    assert not sets["cifar10"]["prepared"]


def test_no_number_becomes_null() -> None:
    assert studies.to_json({"a": [float("nan"), float("inf"), 1.5]}) == '{"a": [null, null, 1.5]}'


@pytest.mark.parametrize(("loss", "text"), [(0.5, "0.5"), (math.nan, "null")])
def test_json_lists_what_is_made_when_it_is_read(loss: float, text: str) -> None:
    record = {"trials": Made([loss, 1.5], lambda value: {"loss": value}), "folder": Path("a")}
    assert studies.to_json(record) == f'{{"trials": [{{"loss": {text}}}, {{"loss": 1.5}}], "folder": "a"}}'


def test_trials_without_a_value_are_sorted_last(small_result: dlbench.StudyResult) -> None:
    first, *rest = small_result.trials
    lost = dlbench.TrialResult(first.trial, dlbench.TrialStatus.FAILED)
    for wanted in ("test_accuracy", "-test_accuracy"):
        ordered: Sequence[dlbench.TrialResult] = queries._sorted([lost, *rest], wanted)
        assert ordered[-1] is lost
        accuracies = [trial.test_accuracy for trial in ordered[:-1]]
        assert accuracies == sorted(accuracies, reverse=wanted.startswith("-"))


# Comparisons that grow, and drawings.

GROWING = [
    "compare-archs",
    "--model",
    "baseline",
    "stabilized",
    "--until-separated",
    "--max-seeds",
    "12",
    *TINY,
]


def test_a_growing_comparison_is_planned_with_its_schedule(
    cli: Cli, written: Callable[[], list[str]]
) -> None:
    record = planned(cli, *GROWING, "--dry-run")
    assert record["study"]["looks"] == [5, 10, 12]
    assert len(record["trials"]) == 24
    found = cli(*GROWING, "--dry-run")
    assert "3 looks planned, after 5, 10 and 12 seeds of each model, at the levels 0.868 %, " in found.out
    assert "At most 24 trials" in found.out
    fixed = planned(cli, *GROWING[:4], "--seeds", "12", *TINY, "--dry-run")
    assert [trial["id"] for trial in fixed["trials"]] == [trial["id"] for trial in record["trials"]]
    assert fixed["study"]["folder"] != record["study"]["folder"], "what is looked at once is another study"
    assert written() == []


def test_the_study_of_a_file_grows_if_it_is_a_comparison(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kind: compare-archs\nmodel: [baseline, stabilized]\nseeds: 3\n")
    for command in ("run", "plan"):
        record = planned(
            cli,
            command,
            "c.yaml",
            "--until-separated",
            "--max-seeds",
            "6",
            *["--dry-run"][: command == "run"],
        )
        assert record["study"]["looks"] == [3, 6]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["compare-archs", "--max-seeds", "9"], ["--max-seeds 9", "--until-separated", "--seeds"]),
        (["compare-archs", "--until-separated"], ["--until-separated needs --max-seeds"]),
        ([*GROWING, "--max-seeds", "4"], ["--max-seeds 4 is less than the 5 seeds"]),
        ([*GROWING, "--max-seeds", "x"], ["--max-seeds", "'x'", "from 1"]),
        ([*GROWING, "--max-seeds", "0"], ["--max-seeds", "got 0"]),
        ([*GROWING, "--seeds", "1"], ["at least two seeds"]),
        (["grid", "--until-separated"], ["--until-separated", "--help"]),
        (["run", "g.yaml", "--until-separated", "--max-seeds", "9"], ["comparisons of models", "'grid'"]),
        (["results", "--plot"], ["--plot", "STUDY"]),
        (["results", "s", "--plot", "--json"], ["--plot", "json"]),
    ],
)
def test_growing_and_drawing_refuse_what_makes_no_sense(
    cli: Cli, tmp_path: Path, args: list[str], words: list[str]
) -> None:
    (tmp_path / "g.yaml").write_text("model: [baseline, stabilized]\nseeds: 3\n")
    found = cli(*args)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in found.err


def test_results_draw_a_study(cli: Cli, small_result: dlbench.StudyResult) -> None:
    found = cli("results", str(small_result.folder), "--plot")
    assert found.code == 0, found.err
    assert found.out.startswith("Validation accuracy %\n")
    assert "a  lr 0.001: " in found.out
    assert "Training loss" in found.out
    one = cli("results", str(small_result.folder), "--plot", "--filter", "lr=0.01")
    assert "b  " not in one.out


def test_json_is_printed_in_parts_as_it_would_be_whole(cli: Cli, small_result: dlbench.StudyResult) -> None:
    found = cli("results", str(small_result.folder), "--json")
    assert found.out == json.dumps(small_result.to_dict()) + "\n"


def test_comparisons_in_files_keep_their_defaults(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("design: comparison\nmodel: [baseline, stabilized]\n")
    for words, expected in (
        (["plan", str(tmp_path / "c.yaml")], ("constant", 2000)),
        (["compare-archs", "--model", "baseline", "stabilized", "--dry-run"], ("cosine", 1000)),
    ):
        (found,) = {(trial["schedule"], trial["train_size"]) for trial in planned(cli, *words)["trials"]}
        assert found == expected
