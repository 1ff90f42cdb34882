"""What a comparison writes: its files, its gates, and a page that takes nothing for code."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from allfour.pipeline import words
from allfour.pipeline.analyses.comparison.reference import UNIFORM
from allfour.pipeline.commands.compare import WrittenComparison, default_name, run_comparison, summary_lines
from allfour.pipeline.report.compare_prose import finding, standfirst
from allfour.pipeline.words import points
from tests.browser import NEEDS_CHROMIUM, axe_source, chromium, violations, wait_until
from tests.pipeline.analyses.comparison_runs import command, compared, make_run
from tests.pipeline.report.fixture_run import Options, build_run
from tests.places import REPOSITORY

# --- files and command -----------------------------------------------------------------------------------------------


def test_the_command_writes_both_files_and_gates_on_the_json(turned: tuple[Path, Path], tmp_path: Path) -> None:
    result = command(*turned, "--out", tmp_path / "out", "--fail-if", "unanimity_difference.high > 0")
    assert result.exit_code == 0, result.output
    assert "for 0 of 6 prompts in after and for 6 in before" in result.output
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["format"] == 1
    result = command(*turned, "--out", tmp_path / "x.html", "--json", "--fail-if", "comparisons.after.prompts.one.p_value < 0.5")  # fmt: skip
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert (printed["exit_code"], printed["gates"][0]["hit"]) == (1, True)
    assert (tmp_path / "x.json").exists()
    page = (tmp_path / "x.html").read_text()
    assert "Fewer prompts with all four images of one perceived gender: 0 of 6 prompts, 6 before." in page
    assert "never anybody&#39;s identity" in page


@pytest.mark.parametrize(
    ("moves", "p", "message"),
    [
        ((11, 10, 4, 5, 0), 1.0, ("No difference shown.", "Still, 9 of 20 prompts changed sides, as is common with only four images.")),
        ((11, 11, 0, 0, 0), 1.0, ("No difference shown.", "No prompt of 20 changed sides.")),
        ((4, 16, 12, 0, 0), 0.001, ("More prompts with all four images of one perceived gender: 16 of 20 prompts, 4 before.", "")),
    ],
)  # fmt: skip
def test_the_headline_is_the_finding(moves: tuple[int, ...], p: float, message: tuple[str, str]) -> None:
    first, second, gained, lost, turned = moves
    counts = {"first": first, "second": second, "prompts": 20, "gained": gained, "lost": lost, "turned": turned}
    pair = {"summary": {"unanimous": counts, "unanimity_difference": {"p_value": p}}}
    assert finding({"comparisons": [pair], "references": [], "set_size": 4, "headline": "gender"}) == message


def test_a_page_counts_the_images_that_it_compares(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", {"x": "WWWW", "only-a": "WWMM"})
    second = make_run(tmp_path / "b", {"x": "WWWM", "only-b": "WWMM", "also-b": "MMMM"})
    page = run_comparison([first, second], out=tmp_path / "o", shared_only=True).page_path.read_text()
    assert "<span> · 1 prompt</span><span> · 8 images in all</span>" in page


def test_a_reference_s_headline_has_its_interval_and_the_prompts_it_leaves_out(tmp_path: Path) -> None:
    shares = tmp_path / "reference.yaml"
    shares.write_text("{name: r, source: s, prompts: {x: {shares: {gender: {woman: 0.5}}}}}")
    run = make_run(tmp_path / "a", {"x": "WWWM", "y": "WWMM", "z": "WWMM"})
    found = compared([run], reference=str(shares))
    headline, sure = finding(found)
    assert headline == "25 points away from r, on average over 1 of 3 prompts."
    assert "(95% interval), where images so few would seem 19 away" in sure
    result = command(run, "--reference", shares, "--out", tmp_path / "o")
    assert "2 prompts have no reference, or no image with a label, and are left out." in result.output
    nobody = compared([make_run(tmp_path / "n", {"x": "AAAA"})], reference=UNIFORM)
    assert finding(nobody) == ("No image has a label that could be set beside an even split.", "")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"one": "WWMM", "two": "WWWW"}, "One became unanimous, one ceased to be. So none is shown."),
        ({"one": "WWWW", "two": "WWMM"}, "So none is shown."),
        ({"one": "WWMM", "two": "WWMM"}, "A difference this large is common by chance alone, so none is shown."),
    ],
)
def test_no_difference_at_all_is_not_called_large(tmp_path: Path, other: dict[str, str], said: str) -> None:
    first = make_run(tmp_path / "a", {"one": "WWWW", "two": "WWMM", "three": "WWMM"})
    second = make_run(tmp_path / "b", {**other, "three": "WWMM"}, salt="x")
    text = standfirst(compared([first, second])["comparisons"][0], 0.95)
    assert text.endswith(said) and ("this large" in text) == ("this large" in said)
    assert ("A difference of 0 points" in text) == ("this large" not in said)


def test_refusals_and_unusable_targets_are_exit_code_2(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", {"x": "WWMM"})
    second = make_run(tmp_path / "b", {"y": "WWMM"})
    result = command(first, second, "--out", tmp_path / "out")
    assert (result.exit_code, result.output.count("error:")) == (2, 1)
    assert not (tmp_path / "out").exists()
    assert command(first, "--reference", UNIFORM, "--out", tmp_path / "x.json").exit_code == 2
    assert command(first, "--reference", UNIFORM, "--out", first / "run.json" / "below").exit_code == 2
    assert command(first, "--reference", tmp_path / "missing.yaml").exit_code == 2


def test_labour_statistics_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "a", {"nurse": "WWWW", "doctor": "MMMM"})
    monkeypatch.chdir(tmp_path)
    result = command(run, "--reference", "configs/references/us-labour.yaml", "--out", "o")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "o" / "compare.html").read_text()
    assert "Against US labour statistics" in page
    assert "year not stated there" in page
    assert (REPOSITORY / "configs/references/us-labour.yaml").exists()


def test_numbers_of_points() -> None:
    assert [points(value) for value in (0.125, -0.045, 0.0, 1.0, 0.0001, None)] == [
        "+12",
        "−4.5",
        "0",
        "+100",
        "0",
        "–",
    ]
    assert default_name(["a/b c", "../x"], None) == "compare-a-b-c-x"


LONG = "stable-diffusion-xl-base-1.0-with-refiner-and-the-diverse-prompt-suffix-seed-"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("sdxl", "sdxl-turbo"), ["sdxl", "sdxl-turbo"]),
        ((f"{LONG}0", f"{LONG}1"), ["…and-the-diverse-prompt-suffix-seed-0", "…and-the-diverse-prompt-suffix-seed-1"]),
        ((f"{LONG}0", f"{LONG}01", "short"), [f"{LONG[:19]}…{LONG[-18:]}0", f"{LONG[:19]}…{LONG[-17:]}01", "short"]),
        ((f"a-{LONG}", f"b-{LONG}"), ["a-stable-diffusion-xl-base-1.0-with-…", "b-stable-diffusion-xl-base-1.0-with-…"]),
        (("x" * 40 + "a" + "x" * 40, "x" * 40 + "b" + "x" * 40), [f"{'x' * 19}…{'x' * 19} (1)", f"{'x' * 19}…{'x' * 19} (2)"]),
        (("", "y" * 50), ["", f"{'y' * 19}…{'y' * 19}"]),
        (("-" * 50, "_" * 50), [f"{'-' * 19}…{'-' * 19}", f"{'_' * 19}…{'_' * 19}"]),
    ],
)  # fmt: skip
def test_long_names_are_cut_where_they_stay_apart(names: tuple[str, ...], shown: list[str]) -> None:
    assert list(words.told_apart(names, 40).values()) == shown


def test_runs_whose_names_begin_alike_are_told_apart_on_every_page(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"{LONG}{k}", {"nurse": row, "doctor": "MMMM"}) for k, row in enumerate(("WWWW", "WWMM", "WMMM"))]  # fmt: skip
    runs += [make_run(tmp_path / "a-model-of-quite-another-name-that-is-long-enough-to-be-cut-somewhere", {"nurse": "WWWW", "doctor": "MMWW"})]  # fmt: skip
    done = run_comparison(runs, out=tmp_path / "out")
    for page in (done.page_path, done.page_path.with_name("compare-pairs.html")):
        text = page.read_text()
        for k in range(3):
            assert f"suffix-seed-{k}" in text.partition("<h1")[2].replace(str(LONG), ""), (page.name, k)
    assert "diverse-pr…" not in "\n".join(summary_lines(done.comparison))
    names = [run.name for run in runs]
    assert default_name(names[:2], None) != default_name([names[0], names[2]], None)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> WrittenComparison:
    """Two runs whose every string is an injection attempt, their folders' names among them."""
    folder = tmp_path_factory.mktemp("hostile")
    runs = [
        build_run(folder / name, Options(hostile=True, prompts=15, seed=seed, size=40))
        for name, seed in (("<script>window.pwned=1<", 1), ("b\"'><img src=x onerror=window.pwned=1>", 5))
    ]
    return run_comparison(runs, out=folder / "out", reference=UNIFORM)


class Elements(HTMLParser):
    """Every element of a page, as a browser's parser sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag


def test_a_hostile_run_is_inert(hostile: WrittenComparison) -> None:
    page = hostile.page_path.read_text()
    parser = Elements()
    parser.feed(page)
    names = [name for name, _ in parser.found]
    assert (names.count("script"), names.count("style"), names.count("meta")) == (2, 1, 5)
    assert not set(names) & {"iframe", "object", "embed", "base", "foreignobject", "animate", "set"}
    for _, attributes in parser.found:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcdoc", "xlink:href")]
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    assert "default-src 'none'" in next(a["content"] or "" for _, a in parser.found if "http-equiv" in a)
    texts = [row["text"] for row in hostile.comparison["comparisons"][0]["prompts"]]
    assert any("<script>" in text for text in texts)


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    with chromium() as browser:
        yield browser.new_context(permissions=["clipboard-read", "clipboard-write"]).new_page()


@pytest.fixture
def page(tab: Any) -> Any:
    """The one tab, for the pages that a test opens: a tab of its own is a process of its own."""
    tab.set_viewport_size({"width": 1280, "height": 720})
    tab.emulate_media(color_scheme="null")
    return tab


@pytest.fixture
def strays(page: Any) -> Iterator[list[str]]:
    """What the pages of a test ask for beyond their own files, and what they complain of."""
    seen: list[str] = []

    def asked(request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            seen.append(request.url)

    listeners = {
        "request": asked,
        "console": lambda message: seen.append(f"console {message.text}"),
        "pageerror": lambda error: seen.append(f"error {error}"),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    yield seen
    for event, listener in listeners.items():
        page.remove_listener(event, listener)


@pytest.mark.browser
@NEEDS_CHROMIUM
def test_axe_finds_nothing(page: Any, turned: tuple[Path, Path], tmp_path: Path) -> None:
    path = run_comparison(turned, out=tmp_path / "plain", reference="uniform").page_path
    page.goto(path.resolve().as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    page.evaluate(axe_source())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme


@pytest.mark.browser
@NEEDS_CHROMIUM
def test_the_page_in_a_browser(
    page: Any, strays: list[str], turned: tuple[Path, Path], hostile: WrittenComparison, tmp_path: Path
) -> None:
    for path in (run_comparison(turned, out=tmp_path / "plain").page_path, hostile.page_path):
        page.set_viewport_size({"width": 390, "height": 800})
        page.goto(path.resolve().as_uri())
        for width in (320, 390, 768, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.locator(".unfold").first.click()
        assert page.locator(".row.open .row-images").first.is_visible()
        assert page.evaluate("window.pwned") is None
        assert strays == []


@pytest.mark.browser
@NEEDS_CHROMIUM
def test_rows_of_a_comparison_filter_copy_and_open_as_those_of_a_report(
    page: Any, strays: list[str], tmp_path: Path
) -> None:
    runs = [build_run(tmp_path / f"run{seed}", Options(seed=seed, size=24, oddities=False)) for seed in (1, 5)]
    path = run_comparison(runs, out=tmp_path / "out").page_path
    page.goto(path.resolve().as_uri())
    page.locator(".pairs a").nth(2).click()
    assert page.locator(".row.open").get_attribute("id") == (page.locator(".pairs a").nth(2).get_attribute("href") or "")[1:]  # fmt: skip
    page.select_option("#show", "changed")
    moves = json.loads((tmp_path / "out" / "comparison.json").read_text())["comparisons"][0]["summary"]["unanimous"]
    changed = moves["gained"] + moves["lost"] + moves["turned"]
    assert 0 < page.locator(".row:visible").count() == changed < 20
    page.click("[data-copy=csv][data-target=figure-pair-1-rows]")
    wait_until(page, "document.getElementById('toast').textContent !== ''")
    rows = list(csv.DictReader(io.StringIO(page.evaluate("navigator.clipboard.readText()"))))
    assert len(rows) == changed
    assert all(row["unanimous_first"] != row["unanimous_second"] for row in rows)
    one = rows[0]
    assert float(one["difference"]) == pytest.approx(float(one["share_woman_second"]) - float(one["share_woman_first"]))
    page.locator(".row:visible .unfold").first.click()
    page.locator(".row.open:visible .side").nth(1).locator(".thumb").first.click()
    message = page.locator("#detail").inner_text()
    assert "reads as" in message
    assert "run5" in message
    page.keyboard.press("Escape")
    assert strays == []


def test_many_prompts_are_drawn_as_a_scatter_and_several_runs_as_sections(tmp_path: Path) -> None:
    sets = ("WWWW", "WWMM", "MMMM")
    runs = [
        make_run(tmp_path / name, {f"p{n}": sets[(n + shift * (n % 2)) % 3] for n in range(61)})
        for shift, name in enumerate(("a", "b", "c"))
    ]
    board = run_comparison(runs, out=tmp_path / "out").page_path
    assert "compare-pairs.html" in board.read_text()
    page = board.with_name("compare-pairs.html").read_text()
    assert page.count('class="planted"') == 2
    assert "prompts, such as a p" in page
    assert "b</bdi> against <bdi>a" in page
    assert 'class="pairs"' not in page


def test_a_comparison_warns_near_chance_and_of_a_rare_label(tmp_path: Path) -> None:
    even = make_run(tmp_path / "even", {f"p{i}": "WM" * 8 for i in range(12)})
    mixed = make_run(tmp_path / "mixed", {f"p{i}": "WWWWM" if i < 6 else "MMMMMWWWWM" for i in range(12)})
    rare = make_run(tmp_path / "rare", {f"p{i}": "MMMMM" if i else "MMMMW" for i in range(12)})
    near = compared([mixed, even])["comparisons"][0]["warnings"]
    assert sum("close to 0.125" in w for w in near) == 1
    assert not any("the most common one" in w for w in near)
    few = compared([mixed, rare])["comparisons"][0]["warnings"]
    assert sum("One of the runs has only 1 image with a label other than the most common one." in w for w in few) == 1
