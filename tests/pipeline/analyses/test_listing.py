"""Analyses are listed by name, so that a run without one imports none of them; the names are held to what they name."""

from __future__ import annotations

from allfour.pipeline.analyses.listing import ANALYSES


def test_every_analysis_is_listed_under_its_own_name_and_file() -> None:
    for listed in ANALYSES:
        found = listed.load()
        assert (found.name, getattr(found, "file", None)) == (listed.name, listed.file)
