"""Error messages of the command line, in which fields have the names of their flags."""

from __future__ import annotations

import typer

from dlbench.cli.options import FLAGS, flag_of
from dlbench.errors import DamagedStudyError, DlbenchError, nearest, shown, suggestion


def described(error: DlbenchError) -> str:
    """The message of an error. Fields are named as the user gave them: by flag, or by field name if in a file."""
    if error.place is not None:
        return error.text()
    named: set[str] = set()

    def name_of(field: str) -> str:
        named.add(field)
        return flag_of(field)

    text = error.text(name_of)
    if error.field in FLAGS and error.field not in named:
        text = f"{FLAGS[error.field]}: {text}"
    if isinstance(error, DamagedStudyError):
        text += f". 'dlbench results {error.value} --check' lists all the damage"
    return text


def misused(error: typer.TyperException) -> str:
    """The message for invalid usage, with a suggestion if an option is unknown."""
    context = getattr(error, "ctx", None)
    text = error.format_message().replace("Value error, ", "").rstrip(".")
    if context is not None and hasattr(error, "possibilities"):  # an unknown option
        name = str(getattr(error, "option_name", ""))
        known = [flag.lstrip("-") for param in context.command.params for flag in param.opts]
        near = nearest(name.lstrip("-"), known)
        text = f"unknown option {shown(name)}.{suggestion(near and f'--{near}')}".rstrip(".")
    if context is None:
        return text
    return f"{text}{'' if text.endswith('?') else '.'} See '{context.command_path} --help'"
