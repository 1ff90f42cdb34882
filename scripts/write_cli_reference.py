"""Write docs/cli.md from the command itself: every command with its arguments and options.

python scripts/write_cli_reference.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.main

from allfour.pipeline.cli import app

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
_HEAD = """# Commands

The text of every `--help`, written by `python scripts/write_cli_reference.py`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a `--fail-if` gate was hit |
| 2 | wrong usage or config, or standard output could not be written |
| 3 | done, but images are missing (failed, refused or unreadable); a gate that is hit wins over this |
| 70 | a fault of allfour itself |
| 130, 143 | stopped by Ctrl-C, by SIGTERM; the same command goes on |
| 141 | the reader of a pipe went away |
"""


def reference() -> str:
    """The page."""
    return "\n".join([_HEAD, *_commands(typer.main.get_command(app), "allfour")])


def _commands(group: Any, path: str) -> list[str]:
    lines: list[str] = []
    for name, command in group.commands.items():
        full = f"{path} {name}"
        if hasattr(command, "commands"):
            lines += _commands(command, full)
            continue
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        shown = " ".join(_metavar(p) for p in arguments)
        lines += [
            f"## `{full}`",
            "",
            " ".join((command.help or "").split()),
            "",
            f"    {full} {shown}".rstrip() + " [OPTIONS]",
            "",
        ]
        context = command.make_context(full, [], resilient_parsing=True)
        rows = [_row(p, context) for p in command.params if p.name != "help"]
        if rows:
            lines += ["| argument or option | meaning |", "|---|---|", *rows, ""]
    return lines


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    more = "..." if parameter.nargs == -1 else ""
    return f"{name}{more}" if parameter.required or name.startswith("[") else f"[{name}]{more}"


def _row(parameter: Any, context: Any) -> str:
    names, meaning = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        names, meaning = _metavar(parameter), meaning.removesuffix("[required]")
    return "| `{}` | {} |".format(*(" ".join(text.split()).replace("|", "\\|") for text in (names, meaning)))


def main() -> None:
    TARGET.write_text(reference(), encoding="utf-8")
    print(TARGET.name)


if __name__ == "__main__":
    main()
