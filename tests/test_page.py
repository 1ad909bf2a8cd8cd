"""The page of a report, as bytes and in a real browser: loads nothing, works by keyboard, on phones, in print."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from test_figures import SECONDS, made_up

from dlbench import report
from dlbench.analysis.claims import judge_study
from dlbench.errors import StoreError
from dlbench.report import Column, Points, StudyReport, Table, figures, notes
from dlbench.report.forest import ICONS, forest
from dlbench.report.page import Figure, Section, StudyPage, read_figures
from dlbench.report.page import to_html as sections_to_html
from dlbench.report.verdicts import ClaimsReport
from dlbench.spec.claims import Claim, Selection
from dlbench.studies.result import StudyResult

COMMANDS = ("dlbench compare-archs --seeds 4", "dlbench replay 'a study' 0123456789abcdef")
MANIFEST = {
    "command": ["dlbench", "a b"],
    "packages": {"jax": "0.10.2"},
    "seeds": [0, 1],
    "git": None,
    "long": "x" * 300,
}
NOTES = """Other work shared the machine; see [speed](#speed) and [the samples](samples/speed.json).

```sh
dlbench bench --against torch
```

### In detail

| model | images/s |
| :-- | --: |
| Baseline | 59,501 |
"""
EVIL = "<script>alert(1)</script> \"' & \x1b[31m"


def page_of(result: StudyResult, folder: Path, **changes: Any) -> StudyPage:
    figures.draw(result, folder)
    page = StudyPage(
        name=folder.name,
        title=f"Study {folder.name}",
        description="Which is the better one?",
        report=report.study_report(result),
        trials=report.trial_table(result.trials),
        figures=read_figures(folder),
        figures_dir=folder,
        manifest=MANIFEST,
        commands=COMMANDS,
    )
    return replace(page, **changes)


def to_html(title: str, pages: list[StudyPage]) -> str:
    """The page of studies without notes."""
    return sections_to_html(title, [Section(page.title, "", page) for page in pages])


def claimed(result: StudyResult) -> ClaimsReport:
    """Claims about the models of a study, and their verdicts."""
    sides = [Selection((("model", (model,)),), "test_accuracy") for model in ("Stabilized", "Baseline")]
    claims = [
        Claim("Stabilized is much better", *sides, points=20.0),
        Claim("Baseline is better", *reversed(sides)),
        Claim("SimpleCNN varies less", *sides, spread=True),
    ]
    return ClaimsReport(judge_study(claims, result))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[StudyPage]:
    """A comparison of five models with claims, and a grid in which some trials diverge."""
    folder = tmp_path_factory.mktemp("pages")
    compared = made_up("compare-archs", model=list(SECONDS), seed=range(4))
    return [
        page_of(
            compared,
            folder / "architectures",
            report=replace(report.study_report(compared), claims=claimed(compared)),
        ),
        page_of(made_up(learning_rate=[1e-3, 1e-2, 1], batch_size=[8, 16], seed=[0, 1]), folder / "grid"),
    ]


@pytest.fixture(scope="module")
def file(pages: list[StudyPage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    sections = [Section(page.title, NOTES, page, path.parent) for page in pages]
    text = sections_to_html(
        "Small CNNs", [*sections, Section("Speed", NOTES, None, path.parent)], None, path.parent
    )
    path.write_text(text, encoding="utf-8")
    return path


class Reader(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def undrawn(text: str) -> str:
    """A page without its pictures."""
    return re.sub('src="data:[^"]*"', "", text)


# As bytes.


def test_equal_input_gives_equal_bytes_and_names_no_address(pages: list[StudyPage], file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert to_html("Small CNNs", pages) == to_html("Small CNNs", pages)
    read = Reader(text)
    addresses = [
        value for _, attributes in read.tags for key in ("src", "href") if (value := attributes.get(key))
    ]
    assert addresses
    assert {address for address in addresses if not address.startswith(("data:", "#"))} == {
        "samples/speed.json"
    }
    assert "url(" not in undrawn(text)
    assert "@import" not in undrawn(text)
    assert read.all("html") == [{"lang": "en"}]


def test_ids_are_unique_and_everything_pointed_to_is_there(file: Path) -> None:
    read = Reader(file.read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointers = [
        str(attributes[key]).removeprefix("#")
        for _, attributes in read.tags
        for key in ("href", "for", "aria-labelledby", "aria-controls")
        if key in attributes and not str(attributes[key]).startswith(("data:", "samples/"))
    ]
    assert len(pointers) > 20
    assert set(pointers) <= set(ids)


def test_headings_are_in_order_and_images_have_words(pages: list[StudyPage], file: Path) -> None:
    for text in (file.read_text(encoding="utf-8"), to_html("One", pages[:1])):
        read = Reader(text)
        levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert all(len(str(image["alt"])) > 20 for image in read.all("img"))
        assert all(str(image["src"]).startswith("data:image/") for image in read.all("img"))
    assert len(read.all("img")) == len(pages[0].figures)


def test_what_a_study_says_is_text_and_never_markup(pages: list[StudyPage], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    column = Column("x", EVIL, left=True)
    evil = StudyPage(
        EVIL,
        EVIL,
        EVIL,
        StudyReport(findings=[EVIL, Points(EVIL, (EVIL,)), Table(EVIL, (column,), ((EVIL,),), EVIL)]),
        Table(EVIL, (column,), ((EVIL,),), EVIL),
        (Figure("a", EVIL, EVIL, EVIL),),
        tmp_path,
        {EVIL: EVIL, "list": [EVIL, {EVIL: EVIL}]},
        (EVIL,),
    )
    for studies in ([evil], [evil, *pages]):
        text = to_html(EVIL, studies)
        assert text.count("<script") == 1
        assert "\x1b" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_only_the_pages_own_script_and_style_may_run(file: Path) -> None:
    text = undrawn(file.read_text(encoding="utf-8"))
    policy = next(meta["content"] for meta in Reader(text).all("meta") if "http-equiv" in meta)
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none'; img-src data:;")


def test_the_page_is_made_of_the_reports_tables_and_sentences(pages: list[StudyPage]) -> None:
    from html import unescape

    text = unescape(to_html("One", pages[:1]))
    for part in pages[0].report.parts:
        words = (
            [cell for row in part.texts() for cell in row]
            if isinstance(part, Table)
            else str(part).split("\n")
        )
        assert all(word.strip() in text for word in words)
    assert ">1,199,882<" in text
    for cell in (">packages.jax", ">0.10.2", ">dlbench 'a b'"):
        assert f"{cell}<" in text
    shown = text[text.index("<article") :]
    places = [shown.index(each) for each in ('class="answer"', "<img", "<table", "Trials, one by one")]
    assert places == sorted(places)


def test_the_first_screen_is_the_answer_and_a_row_for_each_claim(pages: list[StudyPage], file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    plot = text[text.index('<section class="verdicts"') : text.index("The verdicts in numbers")]
    assert re.findall(r'class="answer">([^<]*)', plot) == [
        "Of 3 claims, 1 is refuted and 2 are open. 1 verdict is fragile."
    ]
    rows = re.findall(r'<th scope="row">([^<]*)</th>(.*?)</tr>', plot)
    assert pages[0].report.claims is not None
    for (says, row), judged in zip(rows, pages[0].report.claims.judgements, strict=True):
        assert says == judged.claim.says
        assert f"</span> {judged.verdict}</span>" in row
        assert f">{ICONS[judged.verdict]}</span>" in row
        assert ('class="claimed"' in row) == (judged.claim.points is not None)
        assert 'class="bar"' in row
    assert "Stabilized" in plot[plot.index("<tbody>") :], (
        "the answer of the study, as a heading of its claims"
    )


def test_the_marks_of_a_forest_plot_stand_where_their_values_are() -> None:
    result = made_up("compare-archs", model=list(SECONDS), seed=range(4))
    plot = forest([None, claimed(result)])
    assert plot is not None
    ((place, (first, second, _)),) = plot.groups
    assert place == 1
    assert first.claimed is not None
    assert first.estimate is not None
    assert first.bounds is not None
    assert first.bounds[0] < first.estimate < first.bounds[1] < first.claimed < 100
    assert second.estimate is not None
    assert (first.estimate - plot.zero) * (second.estimate - plot.zero) < 0, (
        "the same pair, the other way round"
    )
    ticks = [place for place, _, _ in plot.ticks]
    assert all(abs(a - b) >= 9 for a, b in itertools.combinations(ticks, 2))
    assert [tick for tick in plot.ticks if tick[1] == "0"] == [(plot.zero, "0", True)]
    values = sorted((float(label), place) for place, label, _ in plot.ticks)
    assert [place for _, place in values] == sorted(ticks)
    assert forest([None]) is None


def test_notes_are_html_with_code_and_sections_folded(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert 'see <a href="#study-3">speed</a> and <a href="samples/speed.json">the samples</a>' in text
    assert "<summary>Code</summary><pre><code" in text
    assert "<summary>In detail</summary>" in text
    assert ">59,501</td>" in text


def test_notes_take_in_pictures_of_their_own_folder_alone(tmp_path: Path) -> None:
    inside, outside = tmp_path / "notes", tmp_path / "other"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.svg").write_text("<svg title='100 % #1'/>")
    text = "![one](a.svg) ![two](../other/a.svg) ![three](none.png) <b>bold</b> [x](javascript:alert(1))"
    links = notes.Links({}, tmp_path)
    (part,) = notes.to_html(text, inside, links)
    assert part.html.count("<img") == 1
    assert 'src="data:image/svg+xml,&lt;svg title=\'100 %25 %231\'/&gt;" alt="one"' in part.html
    assert "two three" in part.html
    assert "&lt;b&gt;bold&lt;/b&gt;" in part.html
    assert "<a" not in part.html


def test_the_trials_of_a_grid_are_not_shown_twice(tmp_path: Path) -> None:
    page = page_of(made_up(learning_rate=[1e-3, 1e-2]), tmp_path)
    assert sum(isinstance(part, Table) for part in page.report.parts) == 1
    text = to_html("One", [page])
    assert text.count("<table") == 2, "trials and manifest"


def test_one_failure_does_not_hide_the_shades_of_the_rest(tmp_path: Path) -> None:
    columns = tuple(Column(name, name, report.percent) for name in ("first", "a", "b", "c", "d"))
    heat = Table("Heat", columns, ((1.0, 0.1, 0.905, 0.95, 0.99), (2.0, None, None, None, None)), heat=True)
    text = to_html("One", [page_of(made_up("train"), tmp_path, report=StudyReport(findings=[heat]))])
    assert re.findall(r'heat-(\d)"[^>]*>([\d.]+)', text) == [
        ("0", "10.00"), ("1", "90.50"), ("4", "95.00"), ("6", "99.00"),
    ]  # fmt: skip


def test_a_figure_without_its_file_is_an_error(pages: list[StudyPage], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the figure 'seeds' is not in"):
        to_html("One", [replace(pages[0], figures_dir=tmp_path)])


# In a browser.

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def open_page(file: Path) -> Iterator[Open]:
    """Opens the page in a fresh context of one Chromium, and sees that nothing is complained of or loaded."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium), so no page is opened")
    sync_api = pytest.importorskip("playwright.sync_api")
    complaints: list[str] = []
    with (
        sync_api.sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=FLAGS) as browser,
    ):

        def opened(width: int = 1280, unfold: bool = True, **options: Any) -> Any:
            context = browser.new_context(viewport={"width": width, "height": 800}, **options)
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith(("data:", file.as_uri()))
                    else complaints.append(request.url)
                ),
            )
            page.goto(file.as_uri())
            if unfold:
                page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            return page

        yield opened
    assert not complaints


def column(page: Any, title: str, study: int = 1) -> list[str]:
    """The cells of a column of the trials that are shown."""
    found: list[str] = page.evaluate(
        """([study, title]) => {
            const table = document.getElementById(`study-${study}-trials-table`);
            const index = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === title);
            return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[index].textContent);
        }""",
        [study, title],
    )
    return found


def test_columns_sort_as_numbers_and_as_words(open_page: Open) -> None:
    page = open_page()
    table = page.locator("#study-1-trials-table")
    heading = table.get_by_role("columnheader", name="val acc %", exact=True)
    before = column(page, "val acc %")
    heading.get_by_role("button").click()
    assert column(page, "val acc %") == sorted(before, key=float) != before
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert column(page, "val acc %") == sorted(before, key=float, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    table.get_by_role("button", name="model").click()
    assert column(page, "model") == sorted(column(page, "model"), key=str.lower)
    assert heading.get_attribute("aria-sort") is None, "one column sorts at a time"
    assert table.locator("[aria-sort]").count() == 1
    page.context.close()


def test_numbers_sort_by_value_and_what_is_missing_stays_last(open_page: Open) -> None:
    page = open_page()
    button = page.locator("#study-2-trials-table").get_by_role("button", name="batch size")
    button.click()
    assert column(page, "batch size", 2) == ["8"] * 6 + ["16"] * 6, "as words, 16 would come before 8"
    button = page.locator("#study-2-trials-table").get_by_role("button", name="val acc %")
    for _ in ("ascending", "descending"):
        button.click()
        shown = column(page, "val acc %", 2)
        assert shown[-4:] == ["-"] * 4
        assert "-" not in shown[:-4]
    page.context.close()


def test_the_filter_keeps_the_rows_that_hold_every_word(open_page: Open) -> None:
    page = open_page()
    box = page.get_by_label("Filter").first
    count = page.locator("output").first
    assert count.text_content() == "20 of 20 trials"
    box.fill("STABILIZED")
    assert column(page, "model") == ["Stabilized"] * 4
    assert count.text_content() == "4 of 20 trials"
    assert page.locator("output").nth(1).text_content() == "12 of 12 trials", "one study's filter is its own"
    trial = column(page, "trial")[2]
    box.fill(f"stabilized  {trial[:8]}")
    assert column(page, "trial") == [trial]
    box.fill("no such trial")
    assert count.text_content() == "0 of 20 trials"
    box.fill("")
    assert len(column(page, "model")) == 20
    page.context.close()


def test_commands_are_copied_with_a_clipboard_and_without(open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy").nth(1)
    button.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == COMMANDS[1]
    page.context.close()
    page = open_page()
    page.evaluate("""() => {
        Object.defineProperty(navigator, 'clipboard', { value: undefined });
        addEventListener('copy', () => { window.copied = getSelection().toString(); });
    }""")
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("window.copied") == COMMANDS[0]
    page.context.close()


def test_everything_works_by_keyboard(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0, "it is seen once it has the focus"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_label("Filter").first.focus()
    page.keyboard.press("Tab")  # the box of the table, which scrolls
    assert page.evaluate("document.activeElement.className") == "scroll tall"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is seen"
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert page.locator("#study-1-trials-table th[aria-sort=descending]").text_content() == "model"
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert not page.locator("details").first.evaluate("(details) => details.open")
    page.context.close()


def test_without_scripts_everything_is_there_and_nothing_is_idle(open_page: Open) -> None:
    page = open_page(unfold=False, java_script_enabled=False)
    page.locator("summary", has_text="Trials").first.click()
    assert page.locator("#study-1-trials-table tbody tr:visible").count() == 20
    for more in page.locator("summary", has_text="more figure").all():
        more.click()
    assert page.locator("img:visible").count() == len(page.locator("img").all()) > 5
    assert page.locator("button").count() == 0
    assert page.locator("input:visible").count() == 0
    page.locator("summary", has_text="environment").first.click()
    assert page.get_by_text("packages.jax").first.is_visible()
    page.context.close()


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_no_width_scrolls_sideways(width: int, open_page: Open) -> None:
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    past = page.evaluate("""() => [...document.querySelectorAll('main *, header, nav, footer')]
        .filter((node) => node.getBoundingClientRect().right > innerWidth)
        .filter((node) => !node.parentElement.closest('.scroll, .card, pre'))
        .map((node) => node.outerHTML.slice(0, 80))""")
    assert past == []
    page.context.close()


CONTRASTS = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [...n.slice(0, 3), n[3] ?? 1]; };
  const over = (top, below) => below.map((b, i) => top[i] * top[3] + b * (1 - top[3]));
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => !node ? [255, 255, 255]
    : over(parse(getComputedStyle(node).backgroundColor), behind(node.parentElement));
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility() || node.tagName === 'SCRIPT') continue;
    const ground = behind(node);
    const pair = [light(over(parse(getComputedStyle(node).color), ground)), light(ground)].sort((a, b) => b - a);
    const name = `${node.tagName} ${node.className} ${node.textContent.slice(0, 40)}`;
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), name]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str, open_page: Open) -> None:
    page = open_page(color_scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 200
    assert [entry for entry in found if entry[0] < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground))) < 60) == (scheme == "dark")
    card = page.locator(".card").first.evaluate("(card) => getComputedStyle(card).backgroundColor")
    assert card == {"light": "rgb(255, 255, 255)", "dark": "rgb(26, 30, 36)"}[scheme], "as in figures.vector"
    page.context.close()


def test_print_shows_everything_and_no_controls(open_page: Open) -> None:
    page = open_page(unfold=False, color_scheme="dark")
    page.emulate_media(media="print")
    for control in ("nav", ".filter", ".skip", ".command button"):
        assert page.locator(control).first.is_hidden()
    for box in page.locator(".scroll, .card, pre").all():
        assert box.evaluate("(box) => getComputedStyle(box).overflowX") == "visible"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.get_by_text("packages.jax").first.is_visible(), (
        "what is folded away is printed without scripts too"
    )
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]:not([data-wide])").count() == 0
    page.context.close()


def test_on_a_phone_what_can_wait_is_folded_and_a_link_unfolds_it(open_page: Open) -> None:
    page = open_page(375, unfold=False)
    assert page.locator("details[open]").count() == 0
    assert page.locator(".forest .verdict").count() == 3
    page.evaluate("location.hash = 'study-1-filter'")
    page.wait_for_function("document.querySelector('details.trials').open")
    page.context.close()
    wide = open_page(unfold=False)
    assert wide.locator("details[open]").count() == wide.locator("details[data-wide]").count() == 4
    wide.context.close()
