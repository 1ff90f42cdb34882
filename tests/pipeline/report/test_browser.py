"""The page in a headless Chromium: filter, sort, detail, keyboard, copy, print; no request, no error, no injection."""

from __future__ import annotations

import csv
import io
import json
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from allfour.pipeline.metrics.asked_for import with_asked
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.intersections import with_intersections
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.report import write_report
from allfour.pipeline.run.asked import AskedPrompt
from tests.browser import NEEDS_CHROMIUM, axe_source, chromium, violations, wait_until
from tests.pipeline.metrics.test_compute import LABELS as BUILT
from tests.pipeline.metrics.test_compute import build
from tests.pipeline.report.fixture_run import Options, build_run
from tests.pipeline.report.full_run import full_run
from tests.pipeline.report.printed import FORMATS, lone_headings, narrow_columns, printed
from tests.pipeline.report.test_sensitivity_view import analysed_runs

pytestmark = [pytest.mark.browser, NEEDS_CHROMIUM]


@dataclass
class Watched:
    """A page with everything that it asked for or complained of."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def quiet(self) -> None:
        assert self.complaints == []
        strays = [u for u in self.requests if urllib.parse.urlsplit(u).scheme not in ("file", "data", "blob")]
        assert strays == []


VIEWPORT: Any = {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = Options(images=6, drawn_world=True, references=True, corrected=True, size=96)
    return write_report(build_run(tmp_path_factory.mktemp("run"), options))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = Options(hostile=True, prompts=30, corrected=True, size=96)
    return write_report(build_run(tmp_path_factory.mktemp("hostile"), options))


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    return analysed_runs(tmp_path_factory.mktemp("analysed"), tiny_clip)[1]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, analysed: Path) -> Path:
    """Every section that there is, few rows: the accessibility check looks at each element several times."""
    return full_run(tmp_path_factory.mktemp("full"), sensitivity=analysed)


@pytest.fixture(scope="module")
def full_hostile(tmp_path_factory: pytest.TempPathFactory, analysed: Path) -> Path:
    return full_run(tmp_path_factory.mktemp("hostile"), sensitivity=analysed, hostile=True)


class Tabs:
    """A browser, and the tab that is loaded anew by each test that asks for no other: a tab of its own is a process of its own."""

    def __init__(self, browser: Any) -> None:
        self._browser, self._shared = browser, Watched(None)

    def open(
        self, path: Path, *, width: int = VIEWPORT["width"], scheme: str = "null", permissions: Sequence[str] = ()
    ) -> Watched:
        """The page in the tab, as a reader opens it."""
        shared = self._shared
        if shared.page is None or shared.page.is_closed():
            shared = self._shared = self._made({})
        shared.page.context.clear_permissions()
        shared.page.context.grant_permissions(list(permissions))
        shared.page.goto("about:blank")
        shared.page.set_viewport_size({**VIEWPORT, "width": width})
        shared.page.emulate_media(media="null", color_scheme=scheme)
        shared.requests.clear()
        shared.complaints.clear()
        shared.page.goto(path.resolve().as_uri())
        return shared

    def apart(self, path: Path, **options: Any) -> Watched:
        """The page in a context of its own, with such options."""
        watched = self._made(options)
        watched.page.goto(path.resolve().as_uri())
        return watched

    def _made(self, options: dict[str, Any]) -> Watched:
        watched = Watched(self._browser.new_context(viewport=VIEWPORT, **options).new_page())
        watched.page.set_default_timeout(60_000)
        watched.page.on("request", lambda request: watched.requests.append(request.url))
        watched.page.on("console", lambda message: watched.complaints.append(f"{message.type}: {message.text}"))
        watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        return watched


@pytest.fixture(scope="module")
def tabs() -> Iterator[Tabs]:
    with chromium() as browser:
        yield Tabs(browser)


@pytest.fixture
def watched(tabs: Tabs, report: Path) -> Iterator[Watched]:
    found = tabs.open(report)
    yield found
    found.quiet()


def busy_seconds(page: Any) -> float:
    """Processor time of the page's main thread so far: unlike the clock, the same on a busy machine."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    return next(m["value"] for m in session.send("Performance.getMetrics")["metrics"] if m["name"] == "ThreadTime")


def open_all(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")


def visible(page: Any) -> list[str]:
    return list(page.locator(".row:visible h3").all_inner_texts())


def test_filter_by_words_verdict_and_confidence(watched: Watched) -> None:
    page = watched.page
    assert page.locator("#shown").inner_text() == "20 of 20 prompts"
    page.fill("#find", "PHOTO nanny")
    assert visible(page) == ["a photo of a nanny"]
    assert page.locator("#shown").inner_text() == "1 of 20 prompts"
    page.fill("#find", "")
    page.select_option("#show", "all-b")
    verdicts = page.locator(".row:visible .verdict").all_inner_texts()
    assert verdicts
    assert set(verdicts) == {"First four all men"}
    page.select_option("#show", "has-missing")
    assert len(visible(page)) == 3
    page.select_option("#show", "has-no_person")
    assert len(visible(page)) == 1
    page.select_option("#show", "")
    page.select_option("#sure-below", "0.6")
    assert 0 < len(visible(page)) < 20
    page.fill("#find", "no such prompt")
    assert page.locator("#none").is_visible()
    page.click("#reset-empty")
    wait_until(page, "document.getElementById('shown').textContent === '20 of 20 prompts'")


def test_sort_by_text_confidence_and_parity(watched: Watched) -> None:
    page = watched.page
    ranks = [int(rank) for rank in page.locator(".rank").all_inner_texts()]
    assert ranks == sorted(ranks)
    page.select_option("#sort", "text")
    assert visible(page) == sorted(visible(page), key=str.casefold)
    page.select_option("#sort", "confidence")
    sure = page.eval_on_selector_all(".row", "rows => rows.map(row => Number(row.dataset.sure))")
    assert sure == sorted(sure)
    page.select_option("#sort", "balance")
    away = page.eval_on_selector_all(".row", "rows => rows.map(row => Math.abs(Number(row.dataset.share) - 0.5))")
    assert away == sorted(away)


def test_detail_by_mouse_shows_scores_seed_and_prompt(watched: Watched) -> None:
    page = watched.page
    page.locator(".thumb").first.click()
    dialog = page.locator("#detail")
    assert dialog.is_visible()
    words = dialog.inner_text()
    for expected in (
        "reads as woman",
        "perceived gender:",
        "perceived race:",
        "perceived age:",
        "Seed",
        "sha256",
        page.locator("h3").first.inner_text(),
    ):
        assert expected in words
    assert page.locator("#detail-image").evaluate("image => image.naturalWidth") > 50
    page.click("#close")
    assert not dialog.is_visible()


def test_detail_by_keyboard_and_focus_returns(watched: Watched) -> None:
    page = watched.page
    first = page.locator(".thumb").first
    first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.n") == "1"
    page.keyboard.press("Enter")
    assert page.locator("#detail-place").inner_text() == "2 of 120"
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail-place").inner_text() == "3 of 120"
    page.keyboard.press("Escape")
    # the dialog says that it has closed a moment after it has
    wait_until(page, "document.activeElement.dataset.n === '2'")


def test_everything_can_be_reached_with_tab_and_shows_its_focus(watched: Watched) -> None:
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "(({id, className}) => [id || className, getComputedStyle(document.activeElement).outlineStyle])(document.activeElement)"
        )
        reached.add(name)
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")[:200]
    assert {"find", "show", "sure-below", "sort", "thumb", "theme"} <= reached


FIGURES = (
    "figure-sets", "figure-sure", "figure-attribute-2", "figure-prompts", "figure-planted", "figure-opinion", "figure-scenes-1",
    "figure-reviewed-2",
)  # fmt: skip


@pytest.mark.slow
def test_figures_copy_as_whole_svg(tabs: Tabs, full: Path) -> None:
    found = tabs.open(full, permissions=["clipboard-read", "clipboard-write"], scheme="dark")
    page = found.page
    open_all(page)
    for target in FIGURES:
        page.evaluate(
            "navigator.clipboard.writeText('').then(() => { document.getElementById('toast').textContent = ''; })"
        )
        page.click(f"[data-copy=svg][data-target={target}]")
        wait_until(page, "document.getElementById('toast').textContent === 'Figure copied as SVG'")
        root = ET.fromstring(page.evaluate("navigator.clipboard.readText()"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg", target
        assert float(root.get("width", "0")) > 100, target
        assert float(root.get("height", "0")) > 20, target
        assert not [node for node in root.iter() if node.get("class")], target
        assert root.findall(".//{http://www.w3.org/2000/svg}text"), target
        assert page.evaluate("document.documentElement.dataset.theme") is None, target
    found.quiet()


def test_tables_copy_as_csv(tabs: Tabs, report: Path) -> None:
    found = tabs.open(report, permissions=["clipboard-read", "clipboard-write"])
    found.page.click("[data-copy=csv][data-target=figure-sure]")
    wait_until(found.page, "document.getElementById('toast').textContent !== ''")
    lines = found.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0] == "Share of prompts,value,low,high"
    summary = json.loads((report.parent / "metrics.json").read_text())["summary"]
    named, *numbers = lines[1].split(",")
    assert named == "Measured"
    assert [float(number) for number in numbers] == [summary["unanimity"][key] for key in ("value", "low", "high")]
    found.page.select_option("#show", "all-b")
    found.page.click("[data-copy=csv][data-target=figure-prompts]")
    wait_until(found.page, "navigator.clipboard.readText().then((text) => text.startsWith('prompt_id'))")
    rows = list(csv.DictReader(io.StringIO(found.page.evaluate("navigator.clipboard.readText()"))))
    assert rows
    assert {row["unanimous"] for row in rows} == {"man"}
    assert all(0 <= float(row["share_woman"]) <= 1 and row["count_man"].isdigit() for row in rows)
    found.quiet()


def test_every_part_of_the_page_is_in_the_navigation(tabs: Tabs, full: Path) -> None:
    found = tabs.open(full)
    named = found.page.eval_on_selector_all("nav a", "links => links.map((link) => link.getAttribute('href').slice(1))")
    there = found.page.eval_on_selector_all("main section[id]", "parts => parts.map((part) => part.id)")
    assert named == there
    found.quiet()


def test_another_run_is_marked_and_sorts(tabs: Tabs, full: Path) -> None:
    found = tabs.open(full)
    page = found.page
    assert page.locator(".row .bar .d-quiet").count() == page.locator(".row").count() == 6
    assert "the same in other run" in page.locator(".marks").inner_text()
    page.select_option("#sort", "away")
    away = page.eval_on_selector_all(".row", "rows => rows.map(row => Number(row.dataset.away))")
    assert away == sorted(away, reverse=True)
    found.quiet()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts and lists whose names are one long word, and prompts that ask for a label."""
    ids = ["nurse" * 12, *(f"p{number}" for number in range(5))]
    run = build(tmp_path_factory.mktemp("unbroken"), {key: ["woman/White", "man/Black", "man/Indian", "man/White"] for key in ids}, groups=dict.fromkeys(ids[:3], "occupations" * 5))  # fmt: skip
    run.update_header(name="unbroken", classifier={"backend": "recorded"})
    asked = {key: AskedPrompt(expect={"gender": "woman"}) for key in ids[:2]}
    counted = tally(run, attributes=list(BUILT), set_size=4)
    metrics = compute_metrics(counted, labels=BUILT, headline="gender", set_size=4, asked=asked)
    metrics = with_asked(metrics, counted.prompts, asked)
    return write_report(run.path, with_intersections(metrics, run, counted.prompts, [("gender", "race")]))


@pytest.mark.parametrize("width", [400, 1440])
def test_names_without_spaces_push_no_figure_out_of_a_table(tabs: Tabs, unbroken: Path, width: int) -> None:
    page = tabs.open(unbroken, width=width).page
    open_all(page)
    cut = "element => element.scrollWidth - element.clientWidth"
    assert page.eval_on_selector("#figure-groups", cut) <= 0
    for heat in page.locator("#heat-prompts-1 tbody tr").all():
        assert heat.locator("td").first.bounding_box()["x"] < width / 2


def test_numbers_of_people_can_be_read_on_a_dark_picture(tabs: Tabs, full: Path) -> None:
    page = tabs.open(full).page
    for number in range(page.locator(".thumb").count()):
        page.evaluate(f"document.querySelector('.thumb[data-n=\"{number}\"]')?.click()")
        if page.locator("#detail-people .who").count():
            break
    drawn = page.locator("#detail-people .who").first
    style = drawn.evaluate("text => [getComputedStyle(text).paintOrder.split(' ')[0], getComputedStyle(text).stroke]")
    assert style == ["stroke", "rgb(255, 255, 255)"]


def test_buttons_of_a_folded_section_are_within_it(tabs: Tabs, report: Path) -> None:
    page = tabs.open(report).page
    open_all(page)
    outside = page.evaluate(
        """() => [...document.querySelectorAll("section .tools")].filter((tools) => {
          const box = tools.getBoundingClientRect(), section = tools.closest("section").getBoundingClientRect();
          return box.width && (box.top < section.top - 1 || box.bottom > section.bottom + 1);
        }).map((tools) => tools.querySelector("button").dataset.target)"""
    )
    assert outside == []


def test_buttons_lie_over_no_caption(tabs: Tabs, unbroken: Path) -> None:
    page = tabs.open(unbroken, width=400).page
    open_all(page)
    over = page.evaluate(
        """() => [...document.querySelectorAll("figure")].filter((figure) => {
          const caption = figure.querySelector("caption"), tools = figure.querySelector(".tools")?.getBoundingClientRect();
          if (!caption || !tools || !tools.width) return false;
          const words = document.createRange();
          words.selectNodeContents(caption);
          return [...words.getClientRects()].some((line) => line.width && line.right > tools.left && line.top < tools.bottom - 4 && line.bottom > tools.top + 4
            && line.width < caption.clientWidth);
        }).map((figure) => figure.id)"""
    )
    assert over == []


def test_what_was_asked_for_has_its_names_and_intervals_on_a_phone(tabs: Tabs, unbroken: Path) -> None:
    page = tabs.open(unbroken, width=400).page
    cells = page.locator("#figure-asked-1 td")
    named = cells.evaluate_all("cells => cells.map((cell) => getComputedStyle(cell, '::before').content)")
    assert named == ['"Shown"', '"Another label"', '"No label"', '"Refused"', '"Failed"']
    assert all(" to " in text for text in cells.all_inner_texts())
    assert cells.first.locator("small").is_visible()


def test_a_square_opens_its_row_and_a_link_its_section(watched: Watched) -> None:
    page = watched.page
    assert page.locator(".row .unfold[aria-expanded=true]").count() == 0
    page.locator(".tiles a").nth(3).click()
    opened_row = page.locator(".row.open")
    assert opened_row.count() == 1
    assert f"#{opened_row.get_attribute('id')}" == page.locator(".tiles a").nth(3).get_attribute("href")
    assert opened_row.locator(".row-more").is_visible()
    opened_row.locator(".unfold").click()
    assert page.locator(".row.open").count() == 0
    page.click("nav a[href='#method']")
    assert page.locator("#method .prose").is_visible()


def test_the_filter_is_in_the_address(tabs: Tabs, report: Path) -> None:
    found = tabs.open(report)
    page = found.page
    page.select_option("#show", "all-a")
    page.fill("#find", "nurse & co")
    assert page.evaluate("location.hash") == "#find=nurse+%26+co&show=all-a"
    page.fill("#find", "nurse")
    address = page.evaluate("location.href")  # page.url learns of it a moment later
    page.goto("about:blank")
    page.goto(address)
    assert page.input_value("#find") == "nurse"
    assert page.input_value("#show") == "all-a"
    assert page.locator("#shown").inner_text() == "1 of 20 prompts"
    found.quiet()


def test_rows_are_low_and_the_page_is_short(tabs: Tabs, tmp_path: Path) -> None:
    page = tabs.open(write_report(build_run(tmp_path, Options(oddities=False, pictures=False)))).page
    heights = page.eval_on_selector_all(".row", "rows => rows.map((row) => row.getBoundingClientRect().height)")
    assert max(heights) <= 66
    assert page.evaluate("document.documentElement.scrollHeight") <= 5000


def test_theme_follows_the_system_and_the_button(tabs: Tabs, report: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    found = tabs.open(report, scheme="dark")
    assert found.page.evaluate(colour) == "rgb(18, 20, 24)"
    found.page.click("#theme")
    assert found.page.evaluate(colour) == "rgb(255, 255, 255)"
    found.quiet()


@pytest.mark.parametrize("which", ["report", "hostile", "full", "full_hostile"])
def test_nothing_runs_over_the_side(tabs: Tabs, which: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(which)
    for opened, narrowed in (
        (1440, 768),
        (390, 320),
    ):  # a desk and a phone, whose reader then makes the window narrower
        page = tabs.open(path, width=opened).page
        for width in (opened, narrowed):
            page.set_viewport_size({**VIEWPORT, "width": width})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, width


def test_readable_without_script(tabs: Tabs, report: Path) -> None:
    found = tabs.apart(report, java_script_enabled=False)
    page = found.page
    assert page.locator("h1").is_visible()
    assert page.locator(".row:visible").count() == 20
    assert page.locator("svg.bar").first.is_visible()
    assert not page.locator("#controls").is_visible()
    assert not page.locator("#theme").is_visible()
    found.quiet()
    page.context.close()


def test_what_is_folded_is_printed_and_folded_again(tabs: Tabs, full: Path) -> None:
    found = tabs.open(full)
    page = found.page
    closed = "[...document.querySelectorAll('section details:not([open])')].filter((d) => !d.closest('.row')).length"
    before = page.evaluate(closed)
    assert before >= 3  # two attributes by prompt, and the configuration
    page.evaluate(
        f"addEventListener('beforeprint', () => {{ window.printed = [{closed}, "
        "document.querySelectorAll('.row details[open]').length]; })"
    )
    page.pdf(format="A4")
    assert page.evaluate("window.printed") == [0, 0]
    wait_until(page, f"{closed} === {before}")
    found.quiet()


def test_prints_to_pdf(watched: Watched) -> None:
    # images that wait until they are scrolled to would be missing on paper
    assert watched.page.evaluate(
        '[...document.querySelectorAll(".row img")].every((image) => image.complete && image.naturalWidth > 0)'
    )
    document = watched.page.pdf(format="A4", print_background=True)
    assert document.startswith(b"%PDF")
    assert len(document) > 50_000
    watched.page.emulate_media(media="print")
    assert not watched.page.locator("#controls").is_visible()
    assert watched.page.locator(".row:visible").count() == 20


@pytest.mark.parametrize("name", FORMATS)
def test_paper_has_no_column_narrower_than_four_words_and_no_heading_alone(tabs: Tabs, full: Path, name: str) -> None:
    page = tabs.open(full).page
    assert narrow_columns(page, name) == []
    assert lone_headings(page, printed(page, name)) == []


@pytest.mark.parametrize("which", ["hostile", "full_hostile"])
def test_injection_run_is_inert(tabs: Tabs, which: str, request: pytest.FixtureRequest) -> None:
    found = tabs.open(request.getfixturevalue(which))
    page = found.page
    open_all(page)
    page.click("#unfold")
    page.evaluate(
        """document.querySelectorAll(".row").forEach((row) => {
          row.querySelector(".thumb").click();
          document.getElementById("close").click();
        })"""
    )
    page.fill("#find", "<script>")
    page.fill("#find", "")
    page.select_option("#sort", "text")
    assert page.evaluate("window.pwned") is None
    assert (
        page.evaluate(
            "document.querySelectorAll('iframe, object, embed, base, img:not([src^=\"data:\"]):not([id])').length"
        )
        == 0
    )
    assert page.evaluate("getComputedStyle(document.body).display") == "block"
    assert len(page.context.pages) == 1
    found.quiet()


def test_axe_finds_what_is_there(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<!DOCTYPE html><html lang="en"><title>x</title><main><h1>x</h1><p style="color: #eee">pale</p><img src="data:,"></main>'
    )
    page = tabs.open(tmp_path / "page.html").page
    page.evaluate(axe_source())
    assert violations(page) == [("serious", "color-contrast", ["p"]), ("critical", "image-alt", ["img"])]


def test_axe_finds_nothing(tabs: Tabs, full: Path) -> None:
    page = tabs.open(full).page
    page.evaluate(axe_source())
    open_all(page)
    page.click("#unfold")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme
        page.evaluate("document.querySelector('.thumb').click()")
        assert violations(page) == [], f"{scheme}, with an image opened"
        page.click("#close")


def test_twenty_prompts_of_64_open_fast_and_stay_small(tabs: Tabs, tmp_path: Path) -> None:
    path = write_report(build_run(tmp_path, Options(images=64, thumbnails=True, pictures=False, size=160)))
    assert path.stat().st_size < 15_000_000
    found = tabs.apart(path)
    found.page.fill("#find", "nanny")
    assert visible(found.page) == ["a photo of a nanny"]
    assert busy_seconds(found.page) < 2.0
    found.quiet()
    found.page.context.close()


def test_large_runs_sample_and_link_their_pages(tabs: Tabs, tmp_path: Path) -> None:
    run = build_run(tmp_path, Options(prompts=510, pictures=False))
    path = write_report(run)
    found = tabs.apart(path)
    assert found.page.locator(".row").count() == 240
    assert busy_seconds(found.page) < 5.0
    assert len(sorted((run / "report").glob("*.html"))) == 2
    found.page.locator("a[href='report/prompts-001.html']").click()
    assert found.page.locator("h1").inner_text() == "Prompts 1 to 500 of 510"
    found.page.locator("a[rel=next]").first.click()
    assert found.page.locator("h1").inner_text() == "Prompts 501 to 510 of 510"
    found.quiet()
    found.page.context.close()


def test_pictures_are_real_jpegs(report: Path) -> None:
    import base64
    import re

    from PIL import Image

    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", report.read_text(encoding="utf-8"))
    assert len(found) == 117  # 120 asked for, less one refused, one failed, one unreadable
    assert Image.open(io.BytesIO(base64.b64decode(found[0]))).format == "JPEG"
