"""How the C code is compiled, cached, chosen and loaded."""

import functools
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import dlbench
from dlbench.ops import native

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here")


ROOT = str(Path(dlbench.__file__).parents[1])


def run_python(code, **environ):
    """What a Python process prints that chooses its kernels by itself, unless told."""
    kept = {k: v for k, v in os.environ.items() if k != native.VARIABLE}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=kept | {"PYTHONPATH": ROOT} | environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def compiler(tmp_path_factory, monkeypatch):
    """One that does not optimise: these tests are about files, and not about what is computed."""
    path = tmp_path_factory.mktemp("compiler") / "cc"
    path.write_text('#!/bin/sh\nexec cc "$@" -O0\n')
    path.chmod(0o755)
    monkeypatch.setenv("CC", str(path))
    return str(path)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_it_is_compiled_once_and_again_if_the_file_is_gone(empty_cache, compiler):
    environ = {"CC": compiler}
    native.choose(environ)
    note, name = files_in(empty_cache)
    path = empty_cache / name
    assert environ == {"CC": compiler, native.VARIABLE: str(path)}
    before = path.stat().st_mtime_ns
    native.choose(again := {"CC": compiler})
    assert (again, path.stat().st_mtime_ns) == (environ, before)
    path.unlink()
    native.choose(environ)
    assert files_in(empty_cache) == [note, name]


@pytest.mark.parametrize("named", ["{cc} -O1", "'{cc}' \"-O1\"", "'{place}' -O1", "{wrapper} {cc} -O1"])
def test_a_compiler_is_named_as_in_a_shell(named, empty_cache, compiler):
    """With quotes, options, spaces in its path, or a wrapper in front of it, as ccache is."""
    place = empty_cache / "my compilers" / "cc"
    place.parent.mkdir()
    place.symlink_to(compiler)
    wrapper = empty_cache / "wrapper"
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    native.choose(environ := {"CC": named.format(cc=compiler, place=place, wrapper=wrapper)})
    assert Path(environ[native.VARIABLE]).is_file(), native.reason()


def test_a_compiler_that_hangs_is_ended_with_what_it_has_started_and_not_tried_again(
    empty_cache, monkeypatch
):
    monkeypatch.setattr(native, "_PREPROCESS_S", 1)
    monkeypatch.setattr(native, "_given_up", {})
    slow, mark = empty_cache / "slow-cc", empty_cache / "mark"
    slow.write_text(f"#!/bin/sh\n(sleep 60; echo late) &\necho $! >> {mark}\nwait\n")
    slow.chmod(0o755)
    start = time.monotonic()
    for _ in range(2):
        native.choose(environ := {"CC": str(slow)})
        assert environ[native.VARIABLE] == ""
        assert native.reason() == f"the compiler {slow} did not end within 1 s"
    assert time.monotonic() - start < 5
    (child,) = mark.read_text().split()
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("call", [1, 2])
def test_a_compiler_that_is_killed_is_started_once_more(call, empty_cache, compiler, monkeypatch):
    monkeypatch.setattr(native, "_given_up", {})
    mark, killed = empty_cache / "mark", empty_cache / "killed-cc"
    killed.write_text(
        f'#!/bin/sh\necho >> {mark}\n[ $(wc -l < {mark}) = {call} ] && kill -9 $$\nexec {compiler} "$@"\n'
    )
    killed.chmod(0o755)
    native.choose(environ := {"CC": str(killed)})
    assert Path(environ[native.VARIABLE]).is_file(), native.reason()
    always = empty_cache / "always-cc"
    always.write_text(f"#!/bin/sh\necho >> {mark}\nkill -9 $$\n")
    always.chmod(0o755)
    before = len(mark.read_text())
    for _ in range(2):  # the second time, it is not tried again
        native.choose(environ := {"CC": str(always)})
        assert environ[native.VARIABLE] == ""
        assert native.reason() == f"the compiler failed: {always} ended with exit code -9"
    assert len(mark.read_text()) == before + 2


@pytest.mark.slow
def test_processes_that_compile_at_once_leave_one_file_and_its_digest(empty_cache, compiler):
    chosen = [{"CC": compiler} for _ in range(4)]
    threads = [threading.Thread(target=native.choose, args=(environ,)) for environ in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = {environ[native.VARIABLE] for environ in chosen}
    assert [str(empty_cache / name) for name in files_in(empty_cache)] == [path[:-3] + ".sha256", path]


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("", "no C compiler: CC is ''"),
        ("'", 'no C compiler: CC is "\'"'),
        ("no-such-compiler", "no C compiler: no-such-compiler was not found"),
        ("/etc", "the compiler /etc cannot be started: "),
        ("false", "the compiler failed: false ended with exit code 1"),
        ("cc -no-such-option", "the compiler failed: cc ended with exit code 1, cc: error: "),
    ],
)
def test_without_a_compiler_there_is_no_compiled_file_and_a_reason(named, reason, empty_cache, compiler):
    native.choose(environ := {"CC": named})
    assert environ == {"CC": named, native.VARIABLE: ""}
    assert files_in(empty_cache) == []
    assert native.reason().startswith(reason)
    native.choose({"CC": compiler})
    assert native.reason() is None


@pytest.fixture
def spoilt(tmp_path):
    """A place where no folder can be made."""
    (tmp_path / "file").write_text("")
    return str(tmp_path / "file")


def test_where_the_cache_cannot_be_used_the_file_lies_in_a_folder_that_goes_with_the_process(spoilt):
    code = (
        "from dlbench.ops import native; print(native.chosen()); native.use_cores(1); print(native.reason())"
    )
    path, reason = run_python(code, DLBENCH_CACHE_DIR=spoilt).splitlines()
    assert (Path(path).suffix, reason) == (".so", "None")
    assert not Path(path).parent.exists()


def test_where_no_folder_can_be_used_there_is_a_reason(spoilt):
    code = "import tempfile; tempfile.tempdir = '/proc/none'; from dlbench.ops import native; "
    code += "print(repr(native.chosen()), native.reason())"
    said = run_python(code, DLBENCH_CACHE_DIR=spoilt)
    assert said.startswith("'' the folder for compiled files cannot be used: ")


OTHER_LIBRARY = "int dlbench_use_cores(int count) { (void)count; __builtin_trap(); }"


def plant_other(path):
    """A library with the same names, which ends whoever calls it."""
    source = path.with_name("other.c")
    source.write_text(OTHER_LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    source.unlink()


def plant_own_other(path):
    """The same, where the digest of another file lies beside it."""
    plant_other(path)
    path.chmod(0o700)


def make_writable(path):
    path.chmod(0o777)


def give_away(path):
    os.chown(path, 12345, 12345)


def link_away(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def put_pipe(path):
    path.unlink()
    os.mkfifo(path)


def put_folder(path):
    path.unlink()
    (path / "inside").mkdir(parents=True)


PLANTED = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"),
    "another library": plant_other,
    "another own library": plant_own_other,
    "writable by all": make_writable,
    "somebody else's": give_away,
    "a link": link_away,
    "a pipe": put_pipe,
    "a folder": put_folder,
    "no digest": lambda path: path.with_suffix(".sha256").unlink(),
    "digest writable by all": lambda path: make_writable(path.with_suffix(".sha256")),
    "digest a pipe": lambda path: put_pipe(path.with_suffix(".sha256")),
}


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(
            plant, id=name, marks=[] if name in ("one bit", "a link", "no digest") else [pytest.mark.slow]
        )
        for name, plant in PLANTED.items()
    ],
)
def test_what_lies_in_the_cache_is_loaded_only_as_it_was_made_here(planted, empty_cache, compiler):
    native.choose(environ := {"CC": compiler})
    path = Path(environ[native.VARIABLE])
    made = path.read_bytes()
    if planted is give_away and os.geteuid():
        pytest.skip("only root can give files away")
    copy = path.with_suffix(
        ".copy"
    )  # this process has loaded the file, and would end with what is done to it
    shutil.copy2(path, copy)
    copy.replace(path)
    planted(path)
    code = "from dlbench.ops import native; native.use_cores(1); print(native.chosen())"
    assert run_python(code, DLBENCH_CACHE_DIR=str(empty_cache)) == f"{path}\n"
    assert not path.is_symlink()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (made, 0o700)
    assert run_python(code, DLBENCH_CACHE_DIR=str(empty_cache), **environ) == f"{path}\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["somebody else's", "a link", "writable by all"])
def test_the_folder_of_the_cache_is_ones_own(kind, empty_cache, compiler):
    if kind == "somebody else's" and os.geteuid():
        pytest.skip("only root can give folders away")
    native.choose(environ := {"CC": compiler})
    path = Path(environ[native.VARIABLE])
    folder = path.parent
    {"somebody else's": give_away, "a link": link_away, "writable by all": make_writable}[kind](folder)
    code = "from dlbench.ops import native; native.use_cores(1); print(native.chosen())"
    chosen = Path(run_python(code, DLBENCH_CACHE_DIR=str(empty_cache)).strip())
    assert chosen.name == path.name
    if kind == "writable by all":
        assert (chosen, folder.stat().st_mode & 0o777) == (path, 0o700), "taken back"
    else:
        assert chosen.parent.name.startswith("dlbench-kernels-")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can mount")
def test_a_cache_from_which_nothing_may_be_run_is_not_used(empty_cache):
    code = "from dlbench.ops import native; native.use_cores(1); print(native.chosen(), native.reason())"
    mount = f"mount -t tmpfs -o noexec none {empty_cache} && exec {sys.executable} -c '{code}'"
    environ = {k: v for k, v in os.environ.items() if k != native.VARIABLE}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount],
        env=environ | {"DLBENCH_CACHE_DIR": str(empty_cache), "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr}")
    assert "/dlbench-kernels-" in done.stdout, done.stderr
    assert done.stdout.endswith(" None\n")


def stem(environ):
    native.choose(environ)
    return Path(environ[native.VARIABLE]).stem


@pytest.mark.slow
def test_the_name_depends_on_the_compilers_options(empty_cache, compiler):
    """Also on those that define no macro."""
    assert (
        stem({})
        == stem({"CC": "cc"})
        != stem({"CC": compiler})
        != stem({"CC": f"{compiler} -fno-unroll-loops"})
    )


def test_the_name_does_not_depend_on_where_the_package_is(empty_cache, compiler):
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
    assert Path(path).stem == stem({"CC": compiler})


def test_loading_and_choosing_import_no_jax():
    code = "import sys; from dlbench.ops import native; native.use_cores(1); sys.exit('jax' in sys.modules)"
    root = str(Path(dlbench.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": root})
