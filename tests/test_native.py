"""How the C code is compiled, cached, chosen and loaded."""

import functools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import dlbench
from dlbench.ops import native

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here")


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_it_is_compiled_once_and_again_if_the_file_is_gone(empty_cache):
    environ = {}
    native.choose(environ)
    (name,) = files_in(empty_cache)
    path = empty_cache / name
    assert environ == {native.VARIABLE: str(path)}
    before = path.stat().st_mtime_ns
    native.choose(again := {})
    assert (again, path.stat().st_mtime_ns) == (environ, before)
    path.unlink()
    native.choose(environ)
    assert files_in(empty_cache) == [name]


def test_processes_that_compile_at_once_leave_one_file(empty_cache):
    chosen = [{} for _ in range(4)]
    threads = [threading.Thread(target=native.choose, args=(environ,)) for environ in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({environ[native.VARIABLE] for environ in chosen}) == len(files_in(empty_cache)) == 1


@pytest.mark.parametrize("compiler", ["", "no-such-compiler", "false"])
def test_without_a_compiler_there_is_no_compiled_file(compiler, empty_cache):
    native.choose(environ := {"CC": compiler})
    assert environ == {"CC": compiler, native.VARIABLE: ""}
    assert files_in(empty_cache) == []


def test_a_cache_that_cannot_be_written_means_no_compiled_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "file"))
    native.choose(environ := {})
    assert environ == {native.VARIABLE: ""}


def stem(environ):
    native.choose(environ)
    return Path(environ[native.VARIABLE]).stem


def test_the_name_depends_on_the_compilers_options(empty_cache):
    """Also on those that define no macro."""
    assert stem({}) == stem({"CC": "cc"}) != stem({"CC": "cc -fno-unroll-loops"})


def test_the_name_does_not_depend_on_where_the_package_is(empty_cache):
    """It is part of the environment that is recorded with a trial, and compared."""
    shutil.copytree(Path(dlbench.__file__).parent, empty_cache / "elsewhere" / "dlbench")
    code = "from dlbench.ops import native; print(native.SOURCES[0]); print(native.chosen())"
    environ = {k: v for k, v in os.environ.items() if k != native.VARIABLE}
    run = functools.partial(
        subprocess.run, [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    source, path = run(
        cwd=empty_cache, env=environ | {"PYTHONPATH": str(empty_cache / "elsewhere")}
    ).stdout.splitlines()
    assert Path(source).is_relative_to(empty_cache)
    assert Path(path).stem == stem({})


def test_loading_and_choosing_import_no_jax():
    code = "import sys; from dlbench.ops import native; native.use_cores(1); sys.exit('jax' in sys.modules)"
    root = str(Path(dlbench.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": root})
