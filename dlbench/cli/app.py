"""The application: all commands, and the conversion of errors to messages on standard error and exit codes."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from dlbench.cli import (
    bench,
    checks,
    comparing,
    deploy,
    diagnosis,
    lists,
    messages,
    queries,
    reports,
    studies,
    upkeep,
)
from dlbench.cli.options import ManyValuesCommand, check_given
from dlbench.errors import DlbenchError, UnknownNameError, printable
from dlbench.execution import stderr

#: If this environment variable is 1, the traceback of an internal error is shown.
DEBUG_VARIABLE = "DLBENCH_DEBUG"
#: Longer messages are truncated.
_MAX_CHARACTERS = 4000


def _example(*lines: str) -> str:
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


class CommandGroup(TyperGroup):
    """A group of commands that suggests a similar name if a command is unknown."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the group's own options."""
        left = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            check_given(self, ctx)
        return left

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names.

        Raises:
            UnknownNameError: there is no such command.
        """
        name = args[0]
        if not (ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name)):
            raise UnknownNameError("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="dlbench",
    cls=CommandGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"max_content_width": 100},
    epilog="""\b
Examples:
  dlbench compare-archs                                 compare five networks
  dlbench grid --lr 1e-3 1e-2 --batch-size 16 32        train a grid
  dlbench plan configs/00-quick.yaml                    see what a study would take
  dlbench run configs/00-quick.yaml                     run or continue a study
  dlbench results STUDY --plot                          look at results
  dlbench report STUDY                                  write a page
  dlbench replay STUDY TRIAL                            reproduce a trial

\b
Exit codes: 0 success, also where trials diverged; 1 a trial failed, a check or a replay found a
difference, a budget is exceeded, or an internal error; 2 invalid input, and nothing was written;
130 interrupted, and the same command continues.
""",
)
data_app = typer.Typer(
    cls=CommandGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    epilog=_example("dlbench data", "dlbench data show mnist5k"),
)


class ResultsGroup(CommandGroup):
    """``results``, whose first argument is one of its commands, or else the study to show."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command ``show`` where no command is named."""
        return super().parse_args(ctx, args if args[:1] and args[0] in self.commands else ["show", *args])


results_app = typer.Typer(
    cls=ResultsGroup, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
)


def _version(asked: bool) -> None:
    if asked:
        from dlbench import __version__

        typer.echo(f"dlbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compare CNN architectures and hyper-parameters on image classification."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _add(name: str, command: Any, *example: str, to: typer.Typer = app) -> None:
    wide = {"max_content_width": 100}
    to.command(name, cls=ManyValuesCommand, epilog=_example(*example), context_settings=wide)(command)


_add("train", studies.train, "dlbench train --model stabilized --lr 1e-3 --epochs 10")
_add("grid", studies.grid, "dlbench grid --lr 1e-3 1e-2 --batch-size 8 16 32 --epochs 3")
_add(
    "compare-archs",
    studies.compare_archs,
    "dlbench compare-archs",
    "dlbench compare-archs --model baseline stabilized --seeds 10",
    "dlbench compare-archs --until-separated --max-seeds 20",
)
_add(
    "ablate",
    studies.ablate,
    "dlbench ablate --base stabilized --without batch_norm dropout --seeds 5",
    "dlbench ablate --base baseline --change kernel_size=5 activation=gelu --factorial --seeds 5",
)
_add(
    "search",
    studies.search,
    "dlbench search --space 'lr=log(1e-4,1e-1)' 'batch_size=choice(8,16,32)' --trials 40 --seeds 3",
)
_add("run", studies.run, "dlbench run configs/00-quick.yaml --epochs 2")
_add(
    "plan",
    studies.plan,
    "dlbench plan --model baseline modernist --lr 1e-3 1e-2 --seeds 5",
    "dlbench plan configs/00-quick.yaml",
)
_add("compare", comparing.compare, "dlbench compare compare-archs-0123456789 grid-0123456789")
_add(
    "diagnose",
    diagnosis.diagnose,
    "dlbench diagnose compare-archs-0123456789",
    "dlbench diagnose compare-archs-0123456789 --show calibration --json",
)
_add(
    "report",
    reports.report,
    "dlbench report compare-archs-0123456789",
    "dlbench report experiments/[01]* --markdown benchmarks.md --html experiments/benchmarks.html",
    "dlbench report compare-archs-0123456789 --watch",
    "dlbench report compare-archs-0123456789 --to mlflow:sqlite:///runs.db",
)
_add(
    "replay",
    checks.replay,
    "dlbench replay compare-archs-0123456789 04bf2983689ac098",
    "dlbench replay experiments/03-architectures --sample 1",
)
_add(
    "export",
    deploy.export,
    "dlbench export compare-archs-0123456789 04bf2983689ac098 --to onnx --int8 --out net.onnx",
    "dlbench export compare-archs-0123456789 04bf2983689ac098 --max-latency 5ms --max-size 1MB",
)
_add("card", deploy.card, "dlbench card compare-archs-0123456789 04bf2983689ac098 --out README.md")
_add(
    "bench",
    bench.bench,
    "dlbench bench --against torch --chart steps.svg",
    "dlbench bench grid --against torch original",
)
_add("list", lists.list_parts, "dlbench list models", "dlbench list schedules --json")
_add("info", queries.info, "dlbench info --json")
app.add_typer(results_app, name="results", help="List the studies in runs/, show one, or tidy up.")
_add(
    "show",
    queries.results,
    "dlbench results",
    "dlbench results grid-0123456789 --plot",
    "dlbench results grid-0123456789 --sort -test_accuracy --filter model=Baseline 'lr<0.01'",
    "dlbench results rm grid-0123456789",
    to=results_app,
)
_add("rm", upkeep.remove, "dlbench results rm grid-0123456789", to=results_app)
_add("mv", upkeep.rename, "dlbench results mv grid-0123456789 learning-rates", to=results_app)
_add("gc", upkeep.collect, "dlbench results gc", to=results_app)
app.add_typer(data_app, name="data")
data_app.callback()(queries.data)
_add("show", queries.show_data, "dlbench data show mnist5k", to=data_app)
_add("check", queries.check_data, "dlbench data check mnist5k", to=data_app)
_add(
    "prepare",
    queries.prepare_data,
    "dlbench data prepare mnist --data-dir ~/data",
    to=data_app,
)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        args: the arguments after ``dlbench``; by default those of this process.
    """
    code = _main(list(sys.argv[1:] if args is None else args))
    gc.freeze()  # the process exits, so a final garbage collection would be a waste of time
    if any(not t.daemon and t is not threading.main_thread() for t in threading.enumerate()):
        stderr.flush()
        os._exit(code)  # an epoch that was given up (workers=0) cannot be ended in another way
    sys.exit(code)


def _main(args: list[str]) -> int:
    _open_standard_streams()
    try:
        os.getcwd()
    except OSError:
        _print_error("the working folder does not exist any more; change to another")
        return 2
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot write "±" shows "?"
    if type(sys.stdout) is io.TextIOWrapper and sys.stdout is sys.__stdout__:
        old = sys.stdout
        sys.stdout = _Output(old.buffer, old.encoding, "replace", line_buffering=old.line_buffering)
    warnings.showwarning = _warn
    try:
        code = typer.main.get_command(app).main(args, prog_name="dlbench", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (DlbenchError, typer.TyperException) as error:
        return _report_error(error)
    except (typer.Abort, KeyboardInterrupt) as error:
        return getattr(error.__cause__ or error, "exit_code", 130)
    except Exception as error:
        if isinstance(sys.stdout, _Output) and sys.stdout.problem:
            return _give_up_output(sys.stdout.problem)
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exc()
        _print_error(
            f"internal error, please report it: {type(error).__name__}: {error} "
            f"({DEBUG_VARIABLE}=1 shows where)"
        )
        return 1


def _open_standard_streams() -> None:
    """See that the numbers 0 to 2 are taken, so that no file of a study becomes standard output by accident."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


class _Output(io.TextIOWrapper):
    """Standard output that remembers how writing to it failed."""

    problem: OSError | None = None

    def write(self, text: str, /) -> int:
        with self._remembering():
            return super().write(text)

    def flush(self) -> None:
        with self._remembering():
            super().flush()

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = error
            raise


def _give_up_output(problem: OSError) -> int:
    """Say what is wrong with standard output, unless nobody wants more of it; Python's own end adds nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(problem, BrokenPipeError):
        _print_error(f"standard output cannot be written: {problem.strerror}")
    return 1


def _report_error(error: DlbenchError | typer.TyperException) -> int:
    if isinstance(error, DlbenchError):
        _print_error(messages.described(error), one_line=error.exit_code == 2)
    else:
        _print_error(messages.misused(error))
    return error.exit_code


def _print_error(text: str, one_line: bool = True) -> None:
    """Print a message, truncated if it is very long, with control characters escaped."""
    text = text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."
    stderr.write(f"Error: {printable(text, '' if one_line else chr(10))}\n")


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    stderr.write(f"Warning: {message}\n")
