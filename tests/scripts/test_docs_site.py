"""The site: commands as the command says them, every page in the navigation, no link to a page that is not there."""

from __future__ import annotations

import re

import yaml

from scripts.write_cli_reference import TARGET, reference
from tests.places import REPOSITORY

DOCS = REPOSITORY / "docs"


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
    pages = [*DOCS.glob("*.md"), *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]
    for page in pages:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
            if "://" in target or target.startswith("mailto:"):
                continue
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: {target}#{anchor}"
