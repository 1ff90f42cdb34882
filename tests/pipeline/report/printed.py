"""What a page is on paper: where its columns are too narrow for words, and which headings stand alone at a page's foot.

    python -m tests.pipeline.report.printed RUN/report.html [--out FOLDER]

prints what it finds on A4 and letter, and keeps the PDFs with --out.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

from pypdf import PdfReader

FORMATS = {"A4": (210, 297), "Letter": (215.9, 279.4)}
"""Millimetres."""
_SIDES = 28
"""Millimetres of both margins (`@page` in report.css)."""
FEWEST_WORDS = 4

# Every block of text that takes more than one line, with the words of its fullest line. A word that is longer than a line may be, such as a
# hash or a path, counts as several; a block of fewer words than four must not wrap at all. Heads over the
# counts of a heatmap are left out: a column of two digits is as wide as its digits.
_NARROW = """
(fewest) => {
  const blocks = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    let block = node.parentElement;
    while (block && ["inline", "inline-block", "contents"].includes(getComputedStyle(block).display)) block = block.parentElement;
    if (!block || block.closest("svg, script, style, pre, code, .visually-hidden, .heat thead")) continue;
    for (const match of node.data.matchAll(/\\S+/g)) {
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const boxes = range.getClientRects();
      if (!boxes.length) continue;
      const lines = blocks.get(block) || { lines: [], words: 0, long: false };
      lines.long = lines.long || match[0].length > 16;
      lines.words += 1;
      const middle = (boxes[0].top + boxes[0].bottom) / 2;
      let line = lines.lines.find((found) => middle > found.top && middle < found.bottom);
      if (!line) { line = { top: boxes[0].top, bottom: boxes[0].bottom, words: 0 }; lines.lines.push(line); }
      line.words += 1;
      if (match[0].length <= 16 && boxes[boxes.length - 1].top >= boxes[0].bottom - 1) lines.broken = match[0];
      blocks.set(block, lines);
    }
  }
  const found = [];
  for (const [block, { lines, words, long, broken }] of blocks) {
    if (long || (lines.length < 2 && !broken)) continue;
    const most = Math.max(...lines.map((line) => line.words));
    if (broken || most < Math.min(fewest, words)) {
      const where = `${block.closest("section")?.id || "page"} ${block.tagName.toLowerCase()}.${block.className}`;
      found.push(`${where}: ${most} of ${words} words on a line: ${block.textContent.trim().replace(/\\s+/g, " ").slice(0, 60)}`);
    }
  }
  return found;
}
"""
_HEADINGS = """
() => Array.from(document.querySelectorAll("h1, h2, h3, caption, summary"))
  .filter((node) => node.getClientRects().length && !node.closest("dialog, .row"))
  .map((node) => node.innerText.replace(/\\s+/g, " ").trim()).filter(Boolean)
"""


def narrow_columns(page: Any, name: str) -> list[str]:
    """Blocks of text on the page, as laid out for paper of that width, that hold fewer than four words on their fullest line."""
    width, height = (round(side / 25.4 * 96) for side in (FORMATS[name][0] - _SIDES, FORMATS[name][1]))
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    found: list[str] = page.evaluate(_NARROW, FEWEST_WORDS)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="null")
    return found


def lone_headings(page: Any, document: bytes) -> list[str]:
    """Headings after which their sheet of the PDF holds nothing but further headings."""
    page.evaluate("document.querySelectorAll('section details').forEach((details) => { details.open = true; })")
    headings = {_squeezed(text) for text in page.evaluate(_HEADINGS)}
    found = []
    for number, sheet in enumerate(PdfReader(io.BytesIO(document)).pages, 1):
        last = _lowest_line(sheet)
        if last and any(last == heading or (len(last) > 8 and heading.endswith(last)) for heading in headings):
            found.append(f"sheet {number}: {last}")
    return found


def _lowest_line(sheet: Any) -> str:
    """The text that stands lowest on a sheet, whatever was drawn last."""
    lines = sheet.extract_text(extraction_mode="layout", layout_mode_strip_rotated=False).splitlines()
    return next((squeezed for line in reversed(lines) if (squeezed := _squeezed(line))), "")


def _squeezed(text: str) -> str:
    """Without spaces: a PDF knows places, not spaces."""
    return "".join(text.split())


def printed(page: Any, name: str) -> bytes:
    """The page as a PDF."""
    document: bytes = page.pdf(format=name, print_background=True)
    return document


def main() -> None:
    """Print pages and say what is wrong with them."""
    from tests.browser import chromium

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with chromium() as browser:
        for path in arguments.pages:
            page = browser.new_page()
            page.goto(path.resolve().as_uri())
            for name in FORMATS:
                document = printed(page, name)
                found = [*narrow_columns(page, name), *lone_headings(page, document)]
                print(f"{path} on {name}: {len(PdfReader(io.BytesIO(document)).pages)} sheets, {len(found)} faults")
                print("".join(f"  {line}\n" for line in found), end="")
                if arguments.out:
                    arguments.out.mkdir(parents=True, exist_ok=True)
                    (arguments.out / f"{path.stem}-{name}.pdf").write_bytes(document)
            page.close()


if __name__ == "__main__":
    main()
