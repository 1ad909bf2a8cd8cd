"""Figures in SVG as matplotlib writes them, made small, and with colours for light and for dark backgrounds.

Coordinates are rounded, equal styles become one class, text stays text, and what no viewer shows is left out: about a
third of the bytes remain. Viewers that prefer a dark scheme, or stand on a page that has one, draw the same shapes in
colours of enough contrast; what is drawn over a shade (:data:`OVER_DARK`, :data:`OVER_LIGHT`) stays as it is.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Iterator
from string import ascii_letters
from xml.etree import ElementTree

#: Text over the dark and the light shades of a map, which have the same colour in both schemes.
OVER_DARK, OVER_LIGHT = "#fefefe", "#010101"
#: The colours of a light background, and what they are on a dark one.
DARK = {
    "#ffffff": "#1a1e24",
    "#000000": "#e3e6ea",
    "#e3e3e3": "#323942",
    "#c8c8c8": "#4d5661",
    "#8c8c8c": "#8f98a3",
    "#0072b2": "#58aee6",
    "#d55e00": "#f28b4c",
    "#009e73": "#35c49b",
    "#cc79a7": "#dd9dc1",
}
_GRID = "stroke:#e3e3e3"
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
#: The fonts of text, of about equal widths, so that labels stand where matplotlib measured them: its own, and
#: what Windows, macOS and iOS have.
_FONTS = "'DejaVu Sans',Verdana,sans-serif"
_FAMILY = re.compile(r"font-family: [^;]*(; )?")
_NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")
_ROUNDED = ("x", "y", "width", "height", "transform")


def compact(svg: str) -> str:
    """A figure of matplotlib with fewer bytes, for light and dark backgrounds. The result is left as it is.

    Args:
        svg: the figure, as ``savefig`` writes it.
    """
    root = ElementTree.fromstring(svg)
    if root.find(f"{{{_SVG}}}metadata") is None and "prefers-color-scheme" in svg:
        return svg
    _strip(root)
    used = {name for value in _values(root) for name in re.findall(r"#([^)]+)\)?$", value)}
    names = _short()
    ids = {name: next(names) for each in root.iter() if (name := each.get("id", "")) in used}
    classes: dict[str, str] = {}
    for each in root.iter():
        _shorten(each, ids, classes, names)
    _unwrap(root)
    sheet = ElementTree.Element(f"{{{_SVG}}}style")
    sheet.text = _sheet(classes)
    root.insert(1, sheet)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True).replace(" />", "/>")


def _short() -> Iterator[str]:
    """a, b, …, aa, ab, …"""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(ascii_letters, repeat=length))


def _values(root: ElementTree.Element) -> Iterator[str]:
    return (value for each in root.iter() for value in each.attrib.values() if "#" in value)


def _strip(element: ElementTree.Element) -> None:
    """Leave out metadata, matplotlib's style sheet, and white space between elements."""
    for child in [*element]:
        if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
            element.remove(child)
            continue
        child.tail = None
        _strip(child)
    if len(element):
        element.text = None


def _shorten(
    element: ElementTree.Element, ids: dict[str, str], classes: dict[str, str], names: Iterator[str]
) -> None:
    """Shorten the attributes of an element."""
    attributes = element.attrib
    if (name := attributes.pop("id", None)) in ids:
        attributes["id"] = ids[name]
    if link := attributes.pop(f"{{{_XLINK}}}href", None):
        attributes["href"] = f"#{ids[link[1:]]}" if link.startswith("#") else _recompressed(link)
    if clip := attributes.get("clip-path"):
        attributes["clip-path"] = f"url(#{ids[clip[5:-1]]})"
    if style := attributes.pop("style", None):
        declared = _FAMILY.sub("", style).replace("; ", ";").replace(": ", ":")
        if declared not in classes:
            classes[declared] = next(names)
        attributes["class"] = classes[declared]
        if _GRID in declared:
            attributes.pop("clip-path", None)  # a line of the grid ends with its axes
    if shape := attributes.get("d"):
        attributes["d"] = _path(shape)
    if element.tag == f"{{{_SVG}}}text":
        moved = attributes.get("transform", "")
        if shift := re.fullmatch(r"translate\(([-\d.]+)[, ]+([-\d.]+)\)", moved):
            attributes |= {"x": shift[1], "y": shift[2]}
        if shift or moved.startswith("rotate(-0 "):
            del attributes["transform"]
    for name in _ROUNDED:
        if name in attributes:
            attributes[name] = _NUMBER.sub(lambda found: _text(float(found[0])), attributes[name])


def _text(value: float) -> str:
    """A number to a tenth of a point, or to three digits where it is small, as a scale is."""
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 10 else f"{value:.3g}"


def _path(shape: str) -> str:
    """The same path by relative steps, which are shorter: to a tenth of a point, or a hundredth in small shapes."""
    commands = re.findall(r"([A-Za-z])([^A-Za-z]*)", shape)
    if not all(letter in "MLQCZz" for letter, _ in commands):
        return shape
    steps = [(letter, [float(number) for number in _NUMBER.findall(rest)]) for letter, rest in commands]
    widest = max((abs(number) for _, numbers in steps for number in numbers), default=0.0)
    places = 1 if widest > 20 else 2
    drawn, last, here, start = "", "", (0, 0), (0, 0)
    for letter, numbers in steps:
        whole = [round(number * 10**places) for number in numbers]
        points = list(zip(whole[::2], whole[1::2], strict=True))
        parts = [
            _digits(value - at, places) for point in points for value, at in zip(point, here, strict=True)
        ]
        command = letter.lower()
        if command == "l" and "0" in parts:
            command, parts = ("v", parts[1:]) if parts[0] == "0" else ("h", parts[:1])
        here = points[-1] if points else start
        start = here if command == "m" else start
        drawn += "" if command == last else command
        for part in parts:
            drawn += f"{'' if _stands_apart(drawn, part) else ' '}{part}"
        last = "" if command in "mz" else command
    return drawn


def _stands_apart(drawn: str, part: str) -> bool:
    """Whether a number needs no blank before it: after a letter, with a sign, or with a second decimal point."""
    before = re.split(r"[ a-z-]", drawn[-12:])[-1]
    return drawn[-1:].isalpha() or part[0] == "-" or (part[0] == "." and "." in before)


def _digits(value: int, places: int) -> str:
    """-5, of hundredths, as -.05."""
    whole, rest = divmod(abs(value), 10**places)
    decimals = f".{rest:0{places}}".rstrip("0") if rest else ""
    return f"{'-' if value < 0 else ''}{whole or ('' if decimals else '0')}{decimals}"


def _unwrap(element: ElementTree.Element) -> None:
    """Replace groups that say nothing with what they hold."""
    children: list[ElementTree.Element] = []
    for child in element:
        _unwrap(child)
        is_empty = child.tag in (f"{{{_SVG}}}g", f"{{{_SVG}}}defs") and not len(child)
        if child.tag == f"{{{_SVG}}}g" and not child.attrib:
            children += [*child]
        elif not is_empty:
            children.append(child)
    element[:] = children


def _recompressed(uri: str) -> str:
    """An image in a figure, a map or the bar of its colours, with a palette."""
    from PIL import Image

    kind, _, data = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    colours = image.convert("RGB").getcolors(256)
    if colours is None or image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        return uri
    file = io.BytesIO()
    image.convert("RGB").quantize(len(colours)).save(file, "PNG", optimize=True)
    return f"{kind},{base64.b64encode(file.getvalue()).decode()}"


def _sheet(classes: dict[str, str]) -> str:
    """The style sheet: every class, and its colours on a dark background."""
    rules = [f"*{{stroke-linejoin:round;stroke-linecap:butt}}svg{{font-family:{_FONTS}}}"]
    rules += [f".{name}{{{declared}}}" for declared, name in classes.items()]
    dark = [f"svg{{fill:{DARK['#000000']}}}"]
    for declared, name in classes.items():
        changed = [
            f"{prop}:{DARK[colour]}"
            for prop, colour in re.findall(r"(fill|stroke):(#\w{6})", declared)
            if colour in DARK
        ]
        dark += [f".{name}{{{';'.join(changed)}}}"] if changed else []
    return f"{''.join(rules)}@media(prefers-color-scheme:dark){{{''.join(dark)}}}"
