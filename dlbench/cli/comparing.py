"""The command compare, which compares whole studies with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from dlbench.cli.options import Json, takes
from dlbench.cli.studies import print_json, study_folder


@dataclass(frozen=True, kw_only=True)
class ComparingOptions:
    """The flags of ``compare``."""

    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY STUDY...", help="Studies: folders, or names in runs/.")
    ]
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="NAME", help="The metric to compare [that of the studies, on test images]."
        ),
    ] = None
    as_json: Json = False


@takes(ComparingOptions)
def compare(options: ComparingOptions) -> None:
    """Compare studies: what differs between them, and which differences of their results the data support.

    Configurations of two studies are tested if they agree in everything that the studies share. Values are paired where
    seed, data and split agree. To train a comparison, use 'dlbench compare-archs'.
    """
    from dlbench.report import terminal
    from dlbench.report.across import across_report
    from dlbench.studies import comparing

    found = comparing.compare(*map(study_folder, options.studies), metric=options.metric)
    if options.as_json:
        print_json(found.to_dict())
    else:
        terminal.show(across_report(found))
