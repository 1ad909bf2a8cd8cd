"""The command list: what can be named, with a line and the arguments of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from dlbench.cli.options import Json, takes
from dlbench.cli.studies import print_json

Kind = Literal["models", "optimizers", "schedules", "criteria", "transforms", "metrics", "datasets"]


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """The flags of ``list``."""

    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="What to list.")]
    as_json: Json = False


@takes(ListOptions)
def list_parts(options: ListOptions) -> None:
    """List models, optimizers, schedules, criteria, transforms, metrics or data sets.

    Parts are named in flags, YAML files and Python, with arguments where they have some: 'cosine(warmup=5)'.
    """
    from dlbench.report import catalog, terminal

    rows = catalog.listing(options.kind)
    if options.as_json:
        print_json({options.kind: rows})
    else:
        terminal.show([catalog.listing_table(options.kind, rows)])
