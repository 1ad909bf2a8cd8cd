"""An extension of mkdocstrings' reader: roles in docstrings, such as :class:`~dlbench.Plan`, become code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`([^`]+)`")


def _shown(found: re.Match[str]) -> str:
    """`~dlbench.spec.Plan` is shown as Plan, as Sphinx does."""
    name = found[1]
    return f"`{name.rpartition('.')[2] if name.startswith('~') else name}`"


class Roles(griffe.Extension):
    """Replaces the roles in all docstrings."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring is not None:
            text = obj.docstring.value.replace("``", "`")
            obj.docstring.value = _ROLE.sub(_shown, text)
