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


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                assert (DOCS / target).exists(), f"{page.name}: {target}"
