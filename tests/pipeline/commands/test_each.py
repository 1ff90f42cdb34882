"""`allfour audit --each`: more images where a prompt's own question is open; no other figure rests on them; kills and caps are met."""

from __future__ import annotations

import html
import io
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from allfour import open_run
from allfour.errors import MaxCostError
from allfour.models.generators.base import Generated, GenerationRequest, Outcome
from allfour.pipeline import cli
from allfour.pipeline.commands import build as build_module
from allfour.pipeline.run.seal import sealed
from tests.light_backends import LightClassifier, LightEncoder
from tests.loopback_image_server import KEY, LoopbackImageServer

RULE = "share.woman.low > 0.5 or share.woman.high < 0.5"
CONFIGURED = build_module.build_generator
LEANING = {"w": 250, "m": 5}
UNASKED = ("summary", "accounting", "attributes", "groups", "prompts")
"""What no image beyond the run's own may move."""


def drawn(request: GenerationRequest) -> bytes:
    """Red for a prompt of women, dark for one of men, and by turns for the others; no two pictures are the same."""
    level = LEANING.get(request.prompt_id[0], 250 if request.index % 2 else 5)
    noise = np.random.default_rng(request.seed).integers(-5, 6, (8, 8, 3))
    buffer = io.BytesIO()
    Image.fromarray((level + noise).clip(0, 255).astype(np.uint8)).resize((40, 40)).save(buffer, "PNG")
    return buffer.getvalue()


class Drawer:
    """Counts what it makes; ends with an error after `left` images, where that is set."""

    made: list[tuple[str, int]]
    left: int | None = None
    error: Exception = KeyboardInterrupt()  # type: ignore[assignment]
    same = False
    folder = Path()

    def __init__(self) -> None:
        self.made = []

    def identity(self) -> dict[str, str]:
        return {"backend": "light"}

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        for request in requests:
            if self.left is not None and len(self.made) >= self.left:
                raise self.error
            self.made.append(request.key)
            again = GenerationRequest(request.prompt_id, 0, request.prompt, zlib.crc32(request.prompt_id.encode()))
            yield Generated(request, data=drawn(again if self.same else request), extension="png")


@pytest.fixture
def drawer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drawer:
    return installed(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the run `r`, whose prompts were asked, and `plain`, whose were not."""
    folder = tmp_path_factory.mktemp("each")
    with pytest.MonkeyPatch.context() as patch:
        installed(folder, patch)
        for run, options in (("plain", ()), ("r", ("--each", RULE, "--up-to", 14))):
            done = audit(*options, run=run)
            assert done.exit_code == 0, done.output
            (folder / f"{run}.txt").write_text(done.output)
    yield folder


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Drawer:
    made = Drawer()
    monkeypatch.setattr(build_module, "build_generator", lambda config, run: made)
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: LightClassifier(attributes))
    ids = ("w1", "w2", "m1", "even")
    prompts = ", ".join(f"{{id: {name}, text: a person {name}}}" for name in ids)
    asking = "{id: asked, text: a woman, expect: {gender: woman}}"
    (folder / "prompts.yaml").write_text(f"name: p\nprompts: [{prompts}, {asking}]\n")
    (folder / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    (folder / "c.yaml").write_text(
        "prompts: {file: prompts.yaml, images_per_prompt: 2, set_size: 2}\ngenerator: {backend: portrait-renderer}\n"
        "classifier: {backend: face}\nattributes: {file: attributes.yaml}\n"
    )
    monkeypatch.chdir(folder)
    return made


@pytest.fixture
def asked(finished: Path, drawer: Drawer, tmp_path: Path) -> Drawer:
    """A run `r` as it is after `audit --each`, to be worked on."""
    shutil.copytree(finished / "r", tmp_path / "r")
    return drawer


def audit(*arguments: Any, run: str = "r") -> Any:
    return CliRunner().invoke(cli.app, ["audit", "--config", "c.yaml", "--run", run, *map(str, arguments)])


def metrics(run: str | Path = "r") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(run, "metrics.json").read_text())
    return found


def test_further_sets_go_to_prompts_that_are_open_and_into_no_other_figure(finished: Path) -> None:
    found, plain = metrics(finished / "r"), metrics(finished / "plain")
    by_id = {prompt["id"]: prompt for prompt in found["each"]["prompts"]}
    assert {key: (p["state"], p["settled"]) for key, p in by_id.items()} == {
        "w1": ("settled", "share.woman.low > 0.5"), "w2": ("settled", "share.woman.low > 0.5"),
        "m1": ("settled", "share.woman.high < 0.5"), "even": ("out_of_reach", None),
    }  # fmt: skip
    # of four prompts at once 10 of 10 images clear the line and 8 of 8 do not; the even one is given up when 14 cannot clear it
    assert [by_id[key]["images"] for key in ("w1", "w2", "m1")] == [10, 10, 10]
    assert by_id["even"]["images"] < 14
    beyond, each = sum(prompt["images"] - 2 for prompt in by_id.values()), found["each"]
    assert (each["more"], each["asked"], each["settled"], each["level"]) == (beyond, 4, 3, pytest.approx(0.05 / 4))
    assert {key: found[key] for key in UNASKED} == {key: plain[key] for key in UNASKED}
    assert pq.read_table(finished / "r/images.parquet").num_rows == 10
    note = f"`{RULE}` is settled for 3 of 4 prompts, 1 given up, because even 14 images could not settle them; {beyond} extra images requested"
    assert note in (finished / "r.txt").read_text()
    page = html.unescape((finished / "r/report.html").read_text())
    assert note.replace(f"`{RULE}`", f"<code>{RULE}</code>") in page  # and no accents around it
    assert "</bdi>: 8 images" in page
    shown = page[page.index('<h3 class="sub">Images beyond the run\'s</h3>') :]
    assert shown.partition("</section>")[0].count("data:image/jpeg") == beyond
    assert "Images beyond" not in (finished / "plain/report.html").read_text()
    head, *rows = (finished / "r/prompts.csv").read_text().splitlines()
    row = dict(zip(head.split(","), rows[0].split(","), strict=True))
    assert (row["images"], row["each_images"], row["each_state"]) == ("2", "10", "settled")
    assert float(row["each_woman_low"]) > 0.5 > float(row["share_woman_low"])
    table = open_run(finished / "r").prompts.to_pylist()[0]
    assert (table["each_images"], table["each_settled"]) == (10, "share.woman.low > 0.5")
    assert table["each_woman_low"] == float(row["each_woman_low"])


def test_what_a_review_and_an_export_leave_out_is_said(asked: Drawer) -> None:
    number = metrics()["each"]["more"]
    drawn = CliRunner().invoke(cli.app, ["review", "r", "--sample", "4"])
    assert f"note: {number} images made for single prompts (`audit --each`) are not in the sample" in drawn.output
    exported = CliRunner().invoke(cli.app, ["export", "r", "--format", "dataset", "--out", "d"])
    assert exported.output.startswith("10 images, ")
    assert f"note: {number} images made for single prompts (`audit --each`) are left out" in exported.output


def test_a_run_that_was_stopped_thrice_goes_on_and_pays_for_no_image_twice(finished: Path, drawer: Drawer) -> None:
    for after in (3, 13, 29):
        drawer.left = after
        assert audit("--each", RULE, "--up-to", 14).exit_code != 0
    drawer.left = None
    assert audit("--each", RULE, "--up-to", 14).exit_code == 0
    assert metrics()["each"] == metrics(finished / "r")["each"]
    assert len(drawer.made) == len(set(drawer.made)) == 10 + metrics()["each"]["more"]
    for name in ("images", "scores"):
        assert pq.read_table(f"r/each/{name}.parquet").equals(pq.read_table(finished / f"r/each/{name}.parquet"))
    again = audit("--each", RULE, "--up-to", 14, "--json")
    assert json.loads(again.stdout)["work"] == {"generated": 0, "scored": 0}


def test_a_cap_ends_it_with_what_was_paid_for_and_more_money_goes_on(drawer: Drawer) -> None:
    drawer.left, drawer.error = 10 + 11, MaxCostError("generator.max_cost leaves no room")
    done = audit("--each", RULE, "--up-to", 14)
    assert done.exit_code == 0, done.output
    each = metrics()["each"]
    assert (each["stopped"], each["more"], each["settled"]) == ("generator.max_cost is spent", 11, 0)
    assert "open (generator.max_cost is spent); 11 extra images requested" in done.output
    drawer.left = None
    audit("--each", RULE, "--up-to", 14)
    assert metrics()["each"]["settled"] == 3
    assert metrics()["each"].get("stopped") is None
    assert len(drawer.made) == len(set(drawer.made))


def test_a_cap_that_the_first_images_reach_leaves_a_whole_run(drawer: Drawer) -> None:
    drawer.left, drawer.error = 10, MaxCostError("generator.max_cost leaves no room")
    done = audit("--each", RULE, "--up-to", 14)
    assert done.exit_code == 0, done.output
    assert "4 open (generator.max_cost is spent); 0 extra images requested" in done.output
    assert CliRunner().invoke(cli.app, ["report", "r"]).exit_code == 0


def test_a_hosted_api_is_paid_from_one_ledger_up_to_its_cap(drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "build_generator", CONFIGURED)
    monkeypatch.setenv("ALLFOUR_TEST_KEY", KEY)
    with LoopbackImageServer(models=["dall-e-2"]) as server:
        hosted = (
            f"{{backend: openai-images, model: dall-e-2, base_url: '{server.base_url}', api_key_env: ALLFOUR_TEST_KEY, size: 256x256, "
            "response_format: b64_json, price_per_image: 0.01, max_cost: 0.17}"
        )
        before = audit("--each", RULE, "--up-to", 14, "--set", f"generator={hosted}", "--dry-run")
        assert "at most 58 more images (0.58), on average about 39 (0.39)" in before.output, before.output
        done = audit("--each", RULE, "--up-to", 14, "--set", f"generator={hosted}")
        assert done.exit_code == 0, done.output
        assert "generator.max_cost is spent); 7 extra images requested" in done.output
        assert server.total_billed == 17
        assert json.loads(Path("r/run.json").read_text())["spent"]["spent"] == pytest.approx(0.17)


def test_copies_of_one_picture_settle_nothing(drawer: Drawer) -> None:
    drawer.same = True
    assert audit("--each", RULE, "--up-to", 14).exit_code == 0
    assert {(p["state"], sum(p["counts"].values()), p["copies"]) for p in metrics()["each"]["prompts"]} == {
        ("out_of_reach", 1, 7)
    }


def test_a_plain_audit_and_more_images_of_every_prompt_use_what_was_made(asked: Drawer) -> None:
    before = metrics()["each"]
    more = audit("--set", "prompts.images_per_prompt=4")
    assert "each.json is ignored" in more.output  # some of its images are the run's own by now
    assert metrics()["each"] is None
    assert len(asked.made) == 2  # of the prompt that asks, which alone had two
    audit("--set", "prompts.images_per_prompt=4", "--each", RULE, "--up-to", 14)
    assert len(asked.made) == 2
    assert [p["counts"] for p in metrics()["each"]["prompts"]] == [p["counts"] for p in before["prompts"]]
    assert metrics()["summary"]["unanimity_all_images"]["images"] == 16


def test_a_run_read_anew_brings_them_along_and_a_first_look_does_not(asked: Drawer) -> None:
    for options in (("--run", "again"), ("--run", "look", "--limit", "6")):
        done = CliRunner().invoke(cli.app, ["rescore", "r", "--config", "c.yaml", "--set", "generator=null", *options])
        assert done.exit_code == 0, done.output
    assert metrics("again")["each"] == metrics()["each"]
    assert metrics("again")["summary"] == metrics()["summary"]
    assert metrics("look")["each"] is None


def test_a_run_that_is_relabelled_says_what_the_new_words_say(drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: LightEncoder(attributes))
    audit("--each", RULE, "--up-to", 14)
    done = CliRunner().invoke(cli.app, ["relabel", "r", "--attributes", "attributes.yaml", "--run", "same"])
    assert done.exit_code == 0, done.output
    assert metrics("same")["each"] == metrics()["each"]
    Path("turned.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [m], man: [w]}}}\n")
    CliRunner().invoke(cli.app, ["relabel", "same", "--attributes", "turned.yaml", "--run", "turned"])
    first, turned = (metrics(run)["each"]["prompts"][0]["counts"] for run in ("r", "turned"))
    assert turned == {"woman": first["man"], "man": first["woman"]}
    # the images lie in the first run: they are exported from there, and it is named where they are to be read again
    exported = CliRunner().invoke(cli.app, ["export", "turned", "--format", "dataset", "--out", "d"])
    assert exported.output.startswith("10 images, ")
    for run, where in (("turned", "same"), ("same", "r")):
        again = CliRunner().invoke(cli.app, ["rescore", run, "--config", "c.yaml", "--run", "again"])
        assert (again.exit_code, again.stderr.strip().endswith(f"Name what it read: {Path(where).resolve()}")) == (
            2,
            True,
        )
    loop = json.loads(Path("same/run.json").read_text()) | {"relabelled_from": str(Path("turned").resolve())}
    Path("same/run.json").write_text(json.dumps(sealed(loop)))
    exported = CliRunner().invoke(cli.app, ["export", "turned", "--format", "dataset", "--out", "e"])
    assert (exported.exit_code, "relabelled from itself" in exported.stderr) == (2, True)


def test_tables_of_picked_prompts_are_no_run(asked: Drawer) -> None:
    for command in (["report"], ["rescore"], ["plan", "--pilot"], ["audit", "--config", "c.yaml", "--run"]):
        done = CliRunner().invoke(cli.app, [*command, "r/each"])
        assert done.exit_code == 2
        assert "picked by what they had shown" in done.output, command


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--each", "headline.low > 0.5"), "is a figure of all prompts"),
        (("--each", "share.x.low > 0.5"), "no label 'x'"),
        (("--each", RULE, "--until", "headline.width < 0.2"), "leave out --until"),
        (("--each", RULE, "--limit", 4), "leave out --limit"),
        (("--each", RULE, "--rank", 0, "--world-size", 2), "leave out --rank"),
        (("--each", RULE, "--up-to", 2), "name more than that"),
        (("--each", RULE, "--up-to", 8), "name 9 or more"),
        (("--each", "share.woman.low > 0.6 and share.woman.high < 0.4"), "no outcome of 32 images"),
        (("--up-to", 8), "belong to --each"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name_before_an_image(
    drawer: Drawer, options: tuple[Any, ...], says: str
) -> None:
    done = audit(*options)
    assert done.exit_code == 2
    assert says in done.output
    assert not drawer.made


def test_a_dry_run_says_the_most_and_the_expected_and_makes_nothing(finished: Path, drawer: Drawer) -> None:
    before = audit("--each", RULE, "--up-to", 14, "--dry-run")
    # four prompts of 14, and two images of the prompt that asks
    assert "at most 58 more images, on average about 39, assuming that" in before.output
    assert not drawer.made
    assert not Path("r").exists()
    shutil.copytree(finished / "plain", "r")
    then = json.loads(audit("--each", RULE, "--up-to", 14, "--dry-run", "--json").stdout)
    assert (then["existing"], then["most"]) == (10, 48)
    assert 20 < then["expected"] < 48
    assert not drawer.made
