"""Compiles every template of a page: a process that is forked from one with this module compiles none."""

from __future__ import annotations

from allfour.pipeline.report.html import environment

for _name in environment().list_templates(extensions=["j2"]):
    environment().get_template(_name)
