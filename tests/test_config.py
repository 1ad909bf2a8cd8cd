"""Studies in YAML files: what they mean, and that every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlbench.errors import ConfigError
from dlbench.spec import claims, config, designs
from dlbench.spec.layouts import lay_out


def read(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return config.read(path)


def test_values_aliases_and_seeds(tmp_path: Path) -> None:
    found = read(tmp_path, "kind: compare-archs\ndescription: why\nmodel: baseline\n")
    assert (found.design, found.description, found.grids) == (
        "comparison",
        "why",
        ({"model": ["baseline"]},),
    )
    found = read(tmp_path, "lr: [1e-3, 0.01]\nepochs: 7\nseeds: 3\nmodel_args: {kernel_size: 5}\n")
    study = designs.expand(found.grids[0])
    assert {trial.learning_rate for trial in study.trials} == {0.001, 0.01}
    assert {trial.seed for trial in study.trials} == {0, 1, 2}
    assert {trial.num_epochs for trial in study.trials} == {7}
    assert study.trials[0].model_args == (("kernel_size", 5),)
    assert found.design == "grid"


def test_a_list_of_seeds_is_taken_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, "seeds: [4, 2]\n").grids == ({"seed": [4, 2]},)


def test_each_of_several_grids_is_merged_over_the_rest(tmp_path: Path) -> None:
    found = read(
        tmp_path, "lr: 1e-3\ngrids:\n  - {optimizer: adam}\n  - optimizer: sgd\n    lr: [0.1, 0.01]\n"
    )
    assert found.grids == (
        {"learning_rate": [0.001], "optimizer": ["adam"]},
        {"learning_rate": [0.1, 0.01], "optimizer": ["sgd"]},
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("model: baseline\nmodle: x\n", 2, ["unknown key 'modle'", "Did you mean 'model'?"]),
        ("lr: 1e-3\nlr: 1e-2\n", 2, ["'lr' is already given", "study.yaml:1"]),
        ("learning_rate: 1e-3\n\nlr: 1e-2\n", 3, ["'lr' is already given", "study.yaml:1"]),
        ("seed: 1\nseeds: 3\n", 2, ["'seeds' is already given"]),
        ("epochs: 3\nlr:\n  - 1e-3\n  - -1\n", 4, ["learning_rate", "greater than 0", "got -1"]),
        ("lr: fast\n", 1, ["learning_rate", "number", "'fast'"]),
        ("epochs: 1.5\n", 1, ["num_epochs", "1.5"]),
        ("epochs: yes\n", 1, ["num_epochs", "number", "True"]),
        ("epochs: {a: 1}\n", 1, ["num_epochs"]),
        ("lr: []\n", 1, ["learning_rate", "no value"]),
        ("a: 1\n", 1, ["unknown key 'a'", "Known:"]),
        ("lr: [1e-3, 0.001]\n", 1, ["learning_rate", "twice"]),
        ("# a comment\nmodel: basline\n", 2, ["basline", "'Baseline'"]),
        (
            "optimizer: tiger\n",
            1,
            ["unknown optimizer 'tiger'", "Known: adam, adamw, sgd, rmsprop, lion, muon."],
        ),
        ("kind: sweep\n", 1, ["kind", "compare-archs", "'sweep'"]),
        ("kind: [grid]\n", 1, ["single value"]),
        ("seeds: 0\n", 1, ["seeds", "from 1 to", "got 0"]),
        ("seeds: 1000000000\n", 1, ["seeds", "1000000000"]),
        ("grids: {lr: 1}\n", 1, ["grids", "list"]),
        ("lr: 1\ngrids:\n  - lr: 1\n    kind: grid\n", 4, ["unknown key 'kind'"]),
        ("grids:\n  - baseline\n", 2, ["'key: value'", "'baseline'"]),
        ("- lr\n", 1, ["'key: value'"]),
        ("lr: [1e-3\nepochs: 3\n", 2, ["invalid YAML"]),
        ("lr: !!python/object:os.system 1\n", 1, ["cannot be read"]),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'study.yaml'}:{line}: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "word"), [(None, "No such file"), (b"", "empty"), (b"\xff\xfe\x00", "UTF-8")]
)
def test_files_that_are_no_study(tmp_path: Path, content: bytes | None, word: str) -> None:
    path = tmp_path / "study.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=word) as caught:
        config.read(path)
    assert str(path) in str(caught.value)


def test_the_files_of_the_project_can_be_read() -> None:
    files = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
    assert files
    for file in files:
        found = config.read(file)
        study = designs.union(lay_out(found.design, part, found.options) for part in found.grids)
        assert found.description
        trials = study.search.base if study.search else study.trials
        claims.check(found.claims, trials)
        assert all(claims.selected(each.of, trials) for each in found.published if each.of)
        first = file.read_text().splitlines()[0].removeprefix("# DLBENCH_DATA_DIR=~/data ").removeprefix("# ")
        begins, ends = f"dlbench run configs/{file.name} ", f" --name {file.stem}"
        assert first.startswith(begins), "headed by its command"
        assert first.endswith(ends)
