"""The page as text: what it says, what it is made of, and that foreign text is inert."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline import words
from allfour.pipeline.report import ReportError, folded, svg, write_report
from allfour.pipeline.report.html import with_code
from allfour.pipeline.report.tables import read_missing
from allfour.pipeline.report.view import PageBuilder, sample
from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA, UNREADABLE
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Metrics, Prompt
from tests.pipeline.report.fixture_run import INJECTIONS, Options, build_run


class Page(HTMLParser):
    """Elements, attributes and texts, for looking into a page without a browser."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._raw: dict[str, str | None] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = dict(attrs) if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._raw = None

    def handle_data(self, data: str) -> None:
        if self._raw is None:
            self.words.append(data)
        elif self.scripts:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def page(plain: Path) -> Page:
    return Page(write_report(plain).read_text(encoding="utf-8"))


def test_headline_names_count_interval_chance_and_missing_correction(page: Page, plain: Path) -> None:
    summary = json.loads((plain / "metrics.json").read_text())["summary"]
    assert (
        f"For {summary['unanimous']} of {summary['prompts']} prompts, all four images show one perceived gender."
        in page.text
    )
    lead, identified = summary["headline"], summary["unanimity_identified"]
    assert (lead["evidence"], lead["low"], lead["high"]) == ("measured", identified["low"], identified["high"])
    whatever = "95% interval, counting images without a label either way"
    assert f"between {lead['low']:.0%} and {lead['high']:.0%} ({whatever})" in page.text
    assert "Clearly above the 12.5% that chance alone would give." in page.text
    assert "were equally likely in every image" in page.text
    assert "Not corrected for the classifier's errors: no calibration was given." in page.text
    assert "perceived presentation, never anybody's identity" in page.text


def test_every_missing_image_is_listed_with_its_reason(page: Page) -> None:
    for reason in ("rejected by the safety system", "the server had an error", "truncated JPEG"):
        assert reason in page.text
    assert "80 requested" in page.text


def test_no_banner_where_the_world_is_not_drawn(page: Page) -> None:
    assert "Drawn world" not in page.text


def test_everything_is_inline_and_nothing_is_fetched(page: Page) -> None:
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)


def test_hostile_run_keeps_its_markup_to_itself(tmp_path: Path) -> None:
    html = write_report(build_run(tmp_path, Options(hostile=True, prompts=30, corrected=True))).read_text(
        encoding="utf-8"
    )
    found = Page(html)
    assert len(found.scripts) == 2
    assert not {tag for tag, _ in found.tags} & {"iframe", "object", "embed", "base"}
    assert len([1 for tag, a in found.tags if tag == "meta" and a.get("http-equiv")]) == 1
    for _, attributes in found.tags:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    data = json.loads(next(body for a, body in found.scripts if a.get("type") == "application/json"))
    assert INJECTIONS[0] in {image["prompt"] for image in data["images"]}
    assert "\u202e" not in html
    assert "\x00" not in html
    assert "{{ 7*7 }}" in found.text


def test_a_model_that_learned_a_drawn_world_may_have_learned_another(tmp_path: Path) -> None:
    run = build_run(tmp_path, Options(drawn_world=True, references=True))
    RunFolder(run).update_header(generator={"backend": "stable-diffusion", "model": "m"})
    words = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "may have learned other shares than were planted." in words


def test_drawn_world_has_its_banner_and_its_check(tmp_path: Path) -> None:
    run = build_run(tmp_path, Options(drawn_world=True, references=True, corrected=True))
    words = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "Drawn world, planted bias: no finding about any real model." in words
    assert "hold the planted share" in words
    found = json.loads((run / "metrics.json").read_text())["summary"]["unanimity_corrected"]
    span = f"{found['value']:.0%} ({found['low']:.0%} to {found['high']:.0%})"
    over = f"over {found['prompts']} prompts"
    assert f"Corrected for the classifier's measured errors: {span}, {over}" in words
    assert "Right most often for younger, least often for older: 7.3 points apart" in words


def test_missing_tables_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"run\.json is missing"):
        write_report(tmp_path)
    run = build_run(tmp_path / "run", Options(prompts=2, oddities=False))
    (run / "scores.parquet").unlink()
    with pytest.raises(ReportError, match=r"scores\.parquet is missing"):
        write_report(run)


def test_a_bare_metrics_document_renders(tmp_path: Path) -> None:
    run = build_run(tmp_path, Options(prompts=2, oddities=False))
    (run / "metrics.json").write_text(json.dumps({"format": 1}))
    (run / "run.json").write_text(json.dumps({"format": 1}))
    assert "nothing can be said" in Page(write_report(run).read_text(encoding="utf-8")).text


def test_an_image_that_broke_after_it_was_made_is_listed(tmp_path: Path) -> None:
    run = build_run(tmp_path, Options(prompts=2, oddities=False))
    scores = pq.read_table(run / "scores.parquet").to_pylist()
    for row in scores:
        if (row["prompt_id"], row["index"]) == ("00001-nurse", 2):
            row["decision"] = UNREADABLE
    pq.write_table(pa.Table.from_pylist(scores, schema=SCORES_SCHEMA), run / "scores.parquet")
    words = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "1 requested image is missing or could not be read" in words
    assert "damaged or changed after it was made" in words


@pytest.mark.parametrize("name", ["images.parquet", "scores.parquet"])
def test_the_table_that_is_damaged_is_the_one_named(name: str, tmp_path: Path) -> None:
    run = build_run(tmp_path, Options(prompts=2, oddities=False))
    rows = pq.read_table(run / "images.parquet").to_pylist()
    rows[0]["status"] = "failed"
    pq.write_table(pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA), run / "images.parquet")
    table = bytearray((run / name).read_bytes())
    meta = pq.read_metadata(run / name).row_group(0)
    for at in range(meta.num_columns):  # every page's header
        column = meta.column(at)
        first = column.dictionary_page_offset or column.data_page_offset
        table[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    (run / name).write_bytes(table)
    with pytest.raises(RunFolderError, match=re.escape(f"{run / name}: cannot be read")):
        read_missing(run, "gender", 10)


def test_pictures_come_from_stored_thumbnails_or_from_a_tar_member(tmp_path: Path) -> None:
    stored = build_run(tmp_path / "stored", Options(prompts=2, oddities=False, pictures=False, thumbnails=True))
    assert write_report(stored).read_text(encoding="utf-8").count('<img src="data:image/jpeg') == 8
    archived = build_run(tmp_path / "archived", Options(prompts=2, oddities=False))
    with tarfile.open(archived / "a.tar", "w") as archive:
        archive.add(archived / "images", "images")
    rows = pq.read_table(archived / "images.parquet").to_pylist()
    for row in rows:
        row["path"] = f"{archived}/a.tar::{row['path']}"
    pq.write_table(pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA), archived / "images.parquet")
    shutil.rmtree(archived / "images")
    assert write_report(archived).read_text(encoding="utf-8").count('<img src="data:image/jpeg') == 8


@pytest.mark.parametrize(
    "path", ["https://x.example/a.png", "s3://b/a.png", "../../etc/passwd", "/dev/zero", "a\0b", "no.tar::x"]
)
def test_paths_that_are_no_local_pictures_leave_a_blank(tmp_path: Path, path: str) -> None:
    run = build_run(tmp_path, Options(prompts=1, images=1, oddities=False))
    rows = pq.read_table(run / "images.parquet").to_pylist()
    rows[0]["path"] = path
    pq.write_table(pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA), run / "images.parquet")
    html = write_report(run).read_text(encoding="utf-8")
    assert '<span class="blank"></span>' in html


def test_pages_of_a_longer_run_are_removed_when_it_shrinks(tmp_path: Path) -> None:
    run = build_run(tmp_path, Options(prompts=241, pictures=False))
    assert "240 of 241 prompts are shown" in Page(write_report(run).read_text(encoding="utf-8")).text
    assert [page.name for page in (run / "report").iterdir()] == ["prompts-001.html"]
    assert "on the page of the folder report" in Page(write_report(run).read_text(encoding="utf-8")).text
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["prompts"] = metrics["prompts"][:10]
    (run / "metrics.json").write_text(json.dumps(metrics))
    write_report(run)
    assert not (run / "report").exists()


def test_writing_twice_gives_the_same_bytes(plain: Path) -> None:
    assert write_report(plain).read_bytes() == write_report(plain).read_bytes()


def test_the_sample_holds_both_ends_and_no_prompt_twice() -> None:
    prompts = [Prompt(id=str(number)) for number in range(10_000)]
    chosen = [rank for rank, _ in sample(prompts)]
    assert len(chosen) == len(set(chosen)) == 240
    assert chosen == sorted(chosen)
    assert chosen[:60] == list(range(1, 61))
    assert chosen[-60:] == list(range(9941, 10_001))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0%"),
        (1.0, "100%"),
        (0.9999, ">99.9%"),
        (0.0004, "<0.1%"),
        (0.004, "0.4%"),
        (0.996, "99.6%"),
        (0.64, "64%"),
        (None, "–"),
    ],
)
def test_percentages_never_claim_a_certainty(value: float | None, shown: str) -> None:
    assert words.percent(value) == shown


def test_foreign_text_is_bared_of_what_cannot_be_seen() -> None:
    assert words.clean("a\x00b\u202ec\ud800d\ne") == "a\\x00b\\u202ec\\ud800d e"
    assert words.clean("x" * 500, 10) == "x" * 10 + "…"
    assert words.clean(None) == ""
    assert words.clean("é " * 5, 10) == "é " * 5 and words.clean("é " * 6, 10) == "é " * 5 + "…"


def test_what_is_taken_out_of_foreign_text_is_not_printable() -> None:
    """So that text which is printable can be left as it is."""
    kept = (chr(number) for number in range(sys.maxunicode + 1) if chr(number).isprintable())
    assert not {"Cc", "Cs", "Zl", "Zp"} & set(map(unicodedata.category, kept))
    assert not any(char.isprintable() for char in words._BIDI | words._LINE_BREAKS)


def test_an_even_split_of_three_labels_is_a_third() -> None:
    labels = ["light", "medium", "dark"]
    share = {
        label: {"value": value, "low": 0.1, "high": 0.9} for label, value in zip(labels, (0.5, 0.25, 0.25), strict=True)
    }
    prompt = {"id": "x", "text": "x", "images": 4, "counts": {"light": 2, "medium": 1, "dark": 1}, "share": share}
    metrics = Metrics.model_validate({"format": 1, "headline": "tone", "labels": {"tone": labels}, "prompts": [prompt]})
    bar = PageBuilder(metrics).row(1, metrics.prompts[0], [], {}).bar
    assert 'x1="33.333%"' in bar
    assert 'x1="50%" x2="50%"' not in bar
    assert "s-b" not in svg.histogram([3, 0, 2], "x", labels=3)
    assert "s-b" in svg.histogram([3, 0, 2], "x", labels=2)


def test_a_prompt_of_which_nothing_was_read_is_not_called_mixed() -> None:
    prompt = {"id": "x", "text": "x", "images": 4, "counts": {"woman": 0, "man": 0, "failed": 4}}
    metrics = Metrics.model_validate({"format": 1, "labels": {"gender": ["woman", "man"]}, "prompts": [prompt]})
    row = PageBuilder(metrics).row(1, metrics.prompts[0], [], {})
    assert (row.verdict, row.verdict_kind) == ("No image could be read", "n")


def test_backticks_become_code_and_everything_else_is_escaped() -> None:
    assert with_code("run `allfour plan <x>` & <b>go</b>") == (
        "run <code>allfour plan &lt;x&gt;</code> &amp; &lt;b&gt;go&lt;/b&gt;"
    )
    assert with_code("one ` alone") == "one ` alone"


def test_a_config_is_laid_out_once_for_all_reports_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"seed": 3, "archive": {"path": Path("/once"), "words": ["a", "\u00e9"]}}
    first = folded._config_text(config)
    assert first == 'seed: 3\narchive:\n  path: /once\n  words:\n  - a\n  - "\\xE9"'
    assert folded._config_text(config | {"seed": 4}) == first.replace("3", "4")
    monkeypatch.setattr(folded.yaml, "safe_dump", lambda *arguments, **options: pytest.fail("it was laid out before"))
    assert folded._config_text(config) == first
