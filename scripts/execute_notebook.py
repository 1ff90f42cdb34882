"""Execute docs/notebook.ipynb without Jupyter and keep what its cells show:

python -m scripts.execute_notebook docs/notebook.ipynb
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import nbformat

_SHOWN = {"text/html": "_repr_html_", "image/svg+xml": "_repr_svg_"}


def run_cell(source: str, scope: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line where that is an expression, as Jupyter has it."""
    tree = ast.parse(source)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, "cell", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), scope) if isinstance(last, ast.Expr) else None


def shown(value: Any) -> dict[str, str]:
    """What a notebook shows of a value, by media type."""
    found = {kind: getattr(value, name)() for kind, name in _SHOWN.items() if hasattr(value, name)}
    return {**found, "text/plain": repr(value)}


def execute(notebook: Any) -> None:
    """Run all cells in order, in a folder that is gone afterwards, and put what they show into the notebook."""
    scope: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(cells, 1):
            value = run_cell(cell.source, scope)
            cell.execution_count = number
            cell.outputs = (
                []
                if value is None
                else [nbformat.v4.new_output("execute_result", shown(value), execution_count=number)]
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    path = parser.parse_args().notebook.absolute()
    notebook = nbformat.read(path, as_version=4)
    execute(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
