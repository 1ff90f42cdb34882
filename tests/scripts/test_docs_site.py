"""The site: commands as the command says them, every page in the navigation, no link, command or option that is not there."""

from __future__ import annotations

import re

import yaml

from scripts.write_cli_reference import TARGET, reference
from tests.places import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]


def test_the_page_of_commands_is_what_the_command_says() -> None:
    assert TARGET.read_text(encoding="utf-8") == reference(), "run: python scripts/write_cli_reference.py"


def test_every_page_is_in_the_navigation_once() -> None:
    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [page for value in values for page in pages(value)]  # type: ignore[attr-defined]

    assert sorted(pages(nav)) == sorted(path.name for path in DOCS.glob("*.md"))


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as both the site and GitHub make them."""
    bare = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = (re.sub(r"[^\w\s-]", "", line).strip().lower() for line in re.findall(r"^#+ (.+)$", bare, re.MULTILINE))
    return {heading.replace(" ", "-") for heading in headings if "--" not in heading}


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
            if "://" in target or target.startswith("mailto:"):
                continue
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: {target}#{anchor}"


def commands_of(text: str) -> list[str]:
    """What a page calls allfour with: lines of blocks, continued ones as one, and what stands in the text as code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"^    .+(?:\n    .+)*", text, re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = [line.split(" #")[0] for line in lines] + [
        " ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)
    ]
    return [command for command in found if re.search(r"(?:^|[ /])allfour [a-z]+\b", command)]


def test_commands_on_the_pages_have_the_options_that_they_are_given() -> None:
    known = {
        heading: set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rows)) | {"--help"}
        for heading, rows in re.findall(
            r"^## `allfour ([a-z ]+)`\n(.*?)(?=^## |\Z)", reference(), re.DOTALL | re.MULTILINE
        )
    }
    checked = 0
    for page in PAGES:
        for text in commands_of(page.read_text(encoding="utf-8")):
            for verb, rest in re.findall(r"(?:^|[ /])allfour ((?:weights )?[a-z]+)\b((?:(?! allfour ).)*)", text):
                assert verb in known or verb == "weights", f"{page.name}: {text}"
                given = set(re.findall(r"(?<![\w'-])--[a-z][a-z-]*", rest))
                assert given <= known.get(verb, set()), f"{page.name}: {text}"
                checked += 1
    assert checked > 100
