"""Errors as the command line words them: a field is called by its flag. Nowhere else does dlbench know flags."""

from __future__ import annotations

import typer

from dlbench.cli.options import FLAGS
from dlbench.errors import DamagedStudyError, DlbenchError, nearest, shown, suggestion


def described(error: DlbenchError) -> str:
    """The message of an error; its fields are named as the user gave them: in a file by name, else by flag."""
    if error.place is not None:
        return error.text()
    named: set[str] = set()

    def name_of(field: str) -> str:
        named.add(field)
        return FLAGS.get(field, field)

    text = error.text(name_of)
    if error.field in FLAGS and error.field not in named:
        text = f"{FLAGS[error.field]}: {text}"
    if isinstance(error, DamagedStudyError):
        text += f". 'dlbench results {error.value} --check' lists all the damage"
    return text


def misused(error: typer.TyperException) -> str:
    """The message of a command line that cannot be read, with the nearest option where one is unknown."""
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
