"""`allfour study`: cells are runs, images are shared, and it goes on where it was."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from allfour.errors import ConfigError, RunFolderError
from allfour.pipeline.cli import app
from allfour.pipeline.commands import study as studies
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.study_money import Purse
from allfour.pipeline.config.study import load_study
from allfour.pipeline.run.documents import read_header, read_metrics
from allfour.pipeline.run.folder import RunFolder
from tests.light_backends import LightClassifier
from tests.loopback_image_server import KEY, LoopbackImageServer
from tests.places import REPOSITORY

STUDY = """
name: three worlds
base: sandbox
generators:
  planted: {generator: {backend: portrait-renderer, size: 32}}
  even: {generator: {backend: portrait-renderer, size: 32, planted: configs/studies/world-even.yaml}}
prompts: {short: {file: short.yaml, images_per_prompt: 4}}
classifiers:
  light: {config: sandbox}
  other: {attributes: {file: configs/attributes/sandbox-plain.yaml}}
"""
PROMPTS = """
name: short
templates: [{text: "a photo of {a} {job}", id: "{job}-photo", subject: "{job}"}]
variables: {job: [nurse, captain, architect]}
"""


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from allfour.pipeline.commands import build

    monkeypatch.setattr(build, "build_classifier", lambda config, attributes: LightClassifier(attributes))
    (tmp_path / "short.yaml").write_text(PROMPTS, encoding="utf-8")
    path = tmp_path / "study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def made(out: Path) -> dict[str, int]:
    """Run folder -> bytes of images of its own."""
    return {run.name: len(list(run.glob("images/*/*"))) for run in sorted((out / "cells").iterdir()) if run.is_dir()}


def test_every_cell_is_a_run_and_those_that_differ_in_the_classifier_share_images(
    study_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    summary = studies.run_study(load_study(study_file), out, Reporter(quiet=True))
    assert made(out) == {
        "even--short--light": 12, "even--short--other": 0, "planted--short--light": 12, "planted--short--other": 0,
    }  # fmt: skip
    assert [(b.axis, b.fixed["classifier"]) for b in summary.result.boards] == [
        ("generator", "light"),
        ("generator", "other"),
    ]
    for cell in summary.result.cells:
        metrics = read_metrics(out / cell.path)
        assert metrics.accounting.scored == 12
        assert [prompt.subject for prompt in metrics.prompts] == ["nurse", "captain", "architect"]
    page = summary.page.read_text(encoding="utf-8")
    assert "cells/planted--short--light/report.html" in page
    assert "Drawn world" in page
    targets = set(re.findall(r'data-copy="csv" data-target="([^"]+)"', page))
    assert {"board-1-ranks", "board-1-prompts", "board-1-pairs", "table-cells"} <= targets
    assert all(page.count(f'id="{target}"') == 1 for target in targets)


def test_a_study_that_was_stopped_twice_goes_on_and_draws_nothing_again(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from allfour.models.generators.portrait_renderer import PortraitRenderer

    drawn: list[tuple[str, str]] = []
    stops = [5, 17]
    real = PortraitRenderer._draw

    def draw(self: PortraitRenderer, request):
        if stops and len(drawn) == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        drawn.append((self._rates_sha256, f"{request.prompt_id}/{request.index}"))
        return real(self, request)

    monkeypatch.setattr(PortraitRenderer, "_draw", draw)
    out, whole = tmp_path / "out", tmp_path / "whole"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            studies.run_study(load_study(study_file), out, Reporter(quiet=True))
    studies.run_study(load_study(study_file), out, Reporter(quiet=True))
    assert len(drawn) == len(set(drawn)) == 24
    again = studies.run_study(load_study(study_file), whole, Reporter(quiet=True)).result
    stopped = json.loads((out / "study.json").read_text())
    assert [board.document() for board in again.boards] == stopped["boards"]


def test_a_study_that_was_moved_goes_on(study_file: Path, tmp_path: Path) -> None:
    whole = load_study(study_file)
    studies.run_study(whole, tmp_path / "out", Reporter(quiet=True))
    before = read_metrics(tmp_path / "out/cells/even--short--other")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    summary = studies.run_study(whole, tmp_path / "elsewhere", Reporter(quiet=True))
    assert not summary.failed
    assert read_metrics(tmp_path / "elsewhere/cells/even--short--other") == before


def test_a_dry_run_says_what_is_left_and_makes_nothing(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = CliRunner().invoke(app, ["study", str(study_file), "--out", str(out), "--dry-run"])
    assert found.exit_code == 0
    assert "in all: 24 images to make, 48 images to score; the time is not known" in " ".join(found.stdout.split())
    assert not out.exists()
    studies.run_study(load_study(study_file), out, Reporter(quiet=True))
    found = CliRunner().invoke(app, ["study", str(study_file), "--out", str(out), "--dry-run"])
    assert "in all: 0 images to make" in found.stdout


def test_a_cell_that_cannot_be_done_is_named_and_the_others_are_done(study_file: Path, tmp_path: Path) -> None:
    text = STUDY.replace("even: {generator: {backend: portrait-renderer, size: 32, planted: configs/studies/world-even.yaml}}",
                         "even: {generator: {backend: openai-images, model: gpt-image-1, api_key_env: NO_SUCH_KEY}}")  # fmt: skip
    study_file.write_text(text, encoding="utf-8")
    found = CliRunner().invoke(app, ["study", str(study_file), "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert "not done: even--short--light: " in found.stdout
    assert (
        "not done: even--short--other: it needs the images of even--short--light, which could not be made"
        in found.stdout
    )
    result = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [cell["state"] for cell in result["cells"]] == ["done", "done", "failed", "failed"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("classifiers:", "klassifiers:", "klassifiers: unknown key. Did you mean 'classifiers'?"),
        ("size: 32}", "size: 3}", "cell planted / short / light: generator.size"),
        ("sandbox-plain.yaml", "sandbox-plan.yaml", "sandbox-plan.yaml: no such file"),
        ("planted: {", "pl--anted: {", "generators.pl--anted"),
    ],
)
def test_a_mistake_is_named_before_anything_is_made(study_file: Path, old: str, new: str, message: str) -> None:
    study_file.write_text(STUDY.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_study(study_file)
    assert message in str(caught.value)


LIGHT = (
    "from allfour.process.own_process import begin_command; begin_command(); from tests.light_backends import install; install(generator=False); "
    "from allfour.__main__ import main; main()"
)


def test_variants_of_one_subject_are_compared_and_three_runs_share_a_page(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "drawn.yaml").write_text(
        PROMPTS.replace("a photo", "a drawing").replace("-photo", "-drawn"), encoding="utf-8"
    )
    text = STUDY.replace("prompts: {short:", "prompts: {drawn: {file: drawn.yaml, images_per_prompt: 4}, short:")
    study_file.write_text(text[: text.index("classifiers:")], encoding="utf-8")
    out = tmp_path / "out"
    studies.run_study(load_study(study_file), out, Reporter(quiet=True))
    photo, drawn = (str(out / "cells" / f"planted--{name}") for name in ("short", "drawn"))
    invoke = CliRunner().invoke
    refused = invoke(app, ["compare", photo, drawn, "--out", str(tmp_path / "c")])
    assert (refused.exit_code, "--pair-by subject" in refused.stderr) == (2, True)
    found = invoke(app, ["compare", photo, drawn, "--pair-by", "subject", "--out", str(tmp_path / "c")])
    assert found.exit_code == 0, found.output
    rows = json.loads((tmp_path / "c" / "comparison.json").read_text())["comparisons"][0]["prompts"]
    assert {(row["first"]["id"], row["second"]["id"]) for row in rows} == {
        (f"{job}-photo", f"{job}-drawn") for job in ("nurse", "captain", "architect")
    }
    assert "a photo of a nurse → a drawing of a nurse" in (tmp_path / "c" / "compare.html").read_text()
    many = [str(out / "cells" / f"{name}--short") for name in ("planted", "even")]
    assert invoke(app, ["compare", *many, drawn, "--pair-by", "subject", "--out", str(tmp_path / "d")]).exit_code == 0
    assert 'href="compare-pairs.html"' in (tmp_path / "d" / "compare.html").read_text()
    study = json.loads((tmp_path / "d" / "comparison.json").read_text())["study"]
    assert [run["level"] for run in study["boards"][0]["runs"]]


HOSTED = """
name: hosted
base: sandbox
generators:
  one: {{generator: {{backend: openai-images, model: dall-e-2, size: 256x256, base_url: "{url}", price_per_image: 0.5, currency: USD}}}}
  two: {{seed: 1, generator: {{backend: openai-images, model: dall-e-3, size: 1024x1024, base_url: "{url}", price_per_image: 0.5, currency: USD}}}}
prompts: {{short: {{file: short.yaml, images_per_prompt: 4}}}}
max_cost: {cap}
parallel: {parallel}
"""


def hosted(path: Path, server: LoopbackImageServer, *, cap: float, parallel: int = 1) -> Path:
    path.write_text(HOSTED.format(url=server.base_url, cap=cap, parallel=parallel), encoding="utf-8")
    return path


def test_one_cap_holds_over_all_cells_and_more_money_ends_the_study(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    out = tmp_path / "out"
    with LoopbackImageServer(models=["dall-e-2", "dall-e-3"]) as server:
        first = studies.run_study(load_study(hosted(study_file, server, cap=8)), out, Reporter(quiet=True))
        assert server.total_billed == 16  # 12 of the first cell, 4 of the second
        assert "two--short" in first.failed
        assert "max_cost" in first.failed["two--short"]
        ledgers = list((out / "cells" / "one--short").glob("ledger.sqlite*"))
        assert ledgers
        for lost in ledgers:
            lost.unlink()
        studies.run_study(load_study(hosted(study_file, server, cap=8)), out, Reporter(quiet=True))
        assert server.total_billed == 16  # a lost ledger gives no money back
        second = studies.run_study(load_study(hosted(study_file, server, cap=12)), out, Reporter(quiet=True))
        assert server.total_billed == 24
    assert second.failed == {}
    assert sum(cell.spent["spent"] for cell in second.result.cells if cell.spent) == 12


@pytest.mark.slow
def test_hosted_cells_are_made_at_once_and_one_that_is_finished_takes_no_part_of_the_money(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setattr(studies, "ALLFOUR", [sys.executable, "-c", LIGHT])
    out = tmp_path / "out"
    with LoopbackImageServer(models=["dall-e-2", "dall-e-3"]) as server:
        one = HOSTED.replace("  two: {{", "  # {{").format(url=server.base_url, cap=99, parallel=1)
        study_file.write_text(one, encoding="utf-8")
        studies.run_study(load_study(study_file), out, Reporter(quiet=True))
        assert server.total_billed == 12
        done = studies.run_study(load_study(hosted(study_file, server, cap=12, parallel=2)), out, Reporter(quiet=True))
        assert server.total_billed == 24
    assert done.failed == {}
    assert {read_header(out / cell.path).spent["spent"] for cell in done.result.cells} == {6.0}
    assert KEY not in "".join(path.read_text() for path in (out / "cells").glob("*.yaml"))


def test_money_is_split_by_what_is_needed_and_never_lent_twice(study_file: Path) -> None:
    three = HOSTED.replace(
        "prompts:",
        "  three: {{generator: {{backend: openai-images, model: m, price_per_image: 0.5, currency: USD}}}}\nprompts:",
    )
    study_file.write_text(three.format(url="http://127.0.0.1:9/v1", cap=6, parallel=3), encoding="utf-8")
    first, second, third = cells = load_study(study_file).cells
    spent, needed = {cell.name: 0.0 for cell in cells}, {first.name: 6.0, second.name: 3.0, third.name: 0.0}
    purse = Purse(6, cells, spent=lambda cell: spent[cell.name], needed=lambda cell: needed[cell.name])
    limit = {}
    purse.expect(cells)
    with purse.lent(first) as lent:
        limit["first"] = lent.config.generator.max_cost
        spent[first.name], needed[first.name] = 1.0, 5.0
        with purse.lent(third) as nothing, purse.lent(second) as part:
            limit |= {"third": nothing.config.generator.max_cost, "second": part.config.generator.max_cost}
            spent[second.name], needed[second.name] = 2.0, 1.0
    assert limit == {"first": 4, "second": 2, "third": 0}
    assert (purse.can_go_on(first), purse.can_go_on(second), purse.can_go_on(third)) == (False, True, False)
    with purse.lent(second) as lent:
        assert lent.config.generator.max_cost == 5  # what the first cell left


def test_whoever_stops_a_study_stops_what_is_ordered(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three hosted cells are under way when a cell of this process is interrupted: they end, and the third never begins."""
    child = f"import pathlib, time; pathlib.Path({str(tmp_path)!r}, 'began').open('a').write('x'); time.sleep(600)"
    monkeypatch.setattr(studies, "ALLFOUR", [sys.executable, "-c", child])

    def interrupted(*_: object, **__: object) -> None:
        began, deadline = tmp_path / "began", time.monotonic() + 100
        while time.monotonic() < deadline and (not began.exists() or len(began.read_text()) < 2):
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "audit", interrupted)
    hosted = "{{generator: {{backend: openai-images, model: m{}, base_url: 'http://127.0.0.1:9/v1'}}}}"
    names = "".join(f"\n  h{n}: {hosted.format(n)}" for n in range(3))
    text = STUDY.replace("generators:", f"generators:{names}").replace("name: three", "parallel: 2\nname: three")
    study_file.write_text(text[: text.index("classifiers:")], encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        studies.run_study(load_study(study_file), tmp_path / "out", Reporter(quiet=True))
    assert time.monotonic() - started < 150
    assert (tmp_path / "began").read_text() == "xx"


def test_two_processes_do_not_work_on_one_study(study_file: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "out").lock(), pytest.raises(RunFolderError, match="another allfour process"):
        studies.run_study(load_study(study_file), tmp_path / "out", Reporter(quiet=True))


def test_a_packaged_study_goes_by_its_name_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(load_study(Path("sandbox")).cells) == len(load_study(Path("configs/studies/sandbox.yaml")).cells) == 12
