"""Notes in Markdown, written by hand, as HTML for the page. No jax.

Markup in notes is shown as text. Pictures are taken into the page if they lie in the folder of the notes; links to
files lead there from the page.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dlbench import files
from dlbench.errors import printable

#: Bytes of a picture, at most.
_LONGEST = 2**28
_KINDS = {".svg": "svg+xml", ".png": "png"}
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")


@dataclass(frozen=True)
class Links:
    """Where links in notes lead.

    Attributes:
        sections: the id of each section of the page, by the anchor that Markdown gives its heading.
        folder: the folder of the page.
    """

    sections: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class Part:
    """A part of notes: what stands under a heading.

    Attributes:
        title: the heading; "" for what comes before the first.
        html: the rest.
    """

    title: str
    html: Markup


def anchor(title: str) -> str:
    """The anchor of a heading, as GitHub makes it: learning-rate for "Learning rate"."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def data_uri(path: Path) -> Markup:
    """A picture as a data URI that can stand in an attribute as it is; drawings are text, which is shorter.

    Args:
        path: the file: .svg or .png.
    """
    data = files.read(path, _LONGEST)
    if path.suffix == ".svg":
        text = data.decode("utf-8", "replace").replace("%", "%25").replace("#", "%23").replace('"', "'")
        text = re.sub(r"\s+", " ", text).replace("&", "&amp;")
        return Markup(f"data:image/svg+xml,{text}")
    return Markup(f"data:image/{_KINDS[path.suffix]};base64,{base64.b64encode(data).decode()}")


def to_html(text: str, folder: Path, links: Links) -> list[Part]:
    """Notes as HTML, part by part; the first part has no title.

    Args:
        text: the notes in Markdown.
        folder: the folder of the notes: links are relative to it, and pictures must lie in it.
        links: where links lead.
    """
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    groups: list[tuple[str, list[Any]]] = [("", [])]
    tokens = iter(reader.parse(printable(text, "\n\t")))
    for token in tokens:
        if token.type == "heading_open":
            groups.append((_words(next(tokens)), []))
            next(tokens)
            continue
        if token.attrs.pop("style", "") == "text-align:left":  # the page allows no styles of elements
            token.attrs["class"] = "l"
        for inner in token.children or ():
            _resolve(inner, folder, links)
        groups[-1][1].append(token)
    made = [(title, reader.renderer.render(found, reader.options, {})) for title, found in groups]
    return [Part(title, Markup(_folded(html))) for title, html in made]


def _folded(html: str) -> str:
    """Notes whose tables scroll, and whose code is folded."""
    html = re.sub(
        "<table>.*?</table>", r'<div class="scroll" tabindex="0">\g<0></div>', html, flags=re.DOTALL
    )
    code = "<details><summary>Code</summary>\\g<0></details>"
    return re.sub("<pre>.*?</pre>", code, html, flags=re.DOTALL)


def _words(token: Any) -> str:
    return "".join(each.content for each in token.children or ())


def _resolve(token: Any, folder: Path, links: Links) -> None:
    """Make a link lead somewhere, and a picture part of the page."""
    if token.type == "image":
        path = (folder / token.attrs["src"]).resolve()
        if path.suffix in _KINDS and path.is_relative_to(folder.resolve()) and path.is_file():
            token.attrs = {"src": data_uri(path).unescape(), "alt": ""}
        else:
            token.type, token.content = "text", token.content or "picture"
    elif token.type == "link_open":
        target = str(token.attrs["href"])
        if target.startswith("#"):
            token.attrs["href"] = f"#{links.sections.get(target[1:], 'main')}"
        elif not _ADDRESS.match(target):
            token.attrs["href"] = Path(os.path.relpath(folder / target, links.folder)).as_posix()
