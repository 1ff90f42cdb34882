"""Runs whose classifier is asked over a network: kills, money, and everything that reads a scored run."""

from __future__ import annotations

import json
import multiprocessing
import shlex
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from allfour.errors import RunFolderError, UsageError
from allfour.pipeline.analyses.comparison.comparability import load_runs
from allfour.pipeline.cli import app
from allfour.pipeline.commands import audit as auditing
from allfour.pipeline.commands import doctor
from allfour.pipeline.commands import rescore as rescoring
from allfour.pipeline.commands.calibrate import run_calibration
from allfour.pipeline.commands.compare import run_comparison
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.relabel import relabel
from allfour.pipeline.commands.report import report_again
from allfour.pipeline.commands.review_draw import draw
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.folder import RunFolder
from tests.loopback import Signals
from tests.loopback_chat_server import BLUE, GREY, KEY, MODEL, RED, LoopbackChatServer, solid
from tests.loopback_image_server import Asked, Fault
from tests.places import REPOSITORY

QUIET = Reporter(quiet=True)
GENDER = "attributes: {gender: {margin: 0.2, labels: {woman: [a woman], man: [a man]}}}\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackChatServer]:
    monkeypatch.setenv("ALLFOUR_TEST_KEY", KEY)
    with LoopbackChatServer() as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four prompts of four pictures: women, men, both, and one of whom nothing can be told; one is a copy of another."""
    root = tmp_path / "pictures"
    rows = {"nurse": [RED] * 4, "captain": [BLUE] * 4, "pilot": [RED, BLUE] * 2, "ghost": [GREY, RED, RED, RED]}
    for place, (prompt, colours) in enumerate(rows.items()):
        (root / prompt).mkdir(parents=True)
        for index, colour in enumerate(colours):
            (root / prompt / f"{index}.png").write_bytes(solid(colour, 4 * place + index))
    (root / "pilot" / "2.png").write_bytes((root / "pilot" / "0.png").read_bytes())
    return root


def config_of(server: LoopbackChatServer, folder: Path, **settings: Any) -> RunConfig:
    file = folder / "gender.yaml"
    file.write_text(GENDER)
    judge = {
        "backend": "judge", "model": MODEL, "base_url": server.base_url, "api_key_env": "ALLFOUR_TEST_KEY", "timeout": 5.0,
        "max_retries": 1,
    }  # fmt: skip
    return RunConfig.model_validate({"classifier": judge | settings, "attributes": {"file": str(file)}})


def decisions(run: RunFolder) -> dict[tuple[str, int], str]:
    rows = pq.read_table(run.scores_path).to_pylist()
    return {(row["prompt_id"], row["index"]): row["decision"] for row in rows}


def test_three_kills_and_nothing_that_was_answered_is_asked_again(
    server: LoopbackChatServer, pictures: Path, tmp_path: Path
) -> None:
    settings = config_of(server, tmp_path, price_per_answer=0.5, concurrency=2)
    run, kills = RunFolder(tmp_path / "run"), Signals(signal.SIGKILL, at=(4, 9, 14))
    server.plan = lambda asked: kills.asked(asked.number)
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(  # a new interpreter would take seconds
            target=rescoring.rescore, args=(settings, str(pictures), run, QUIET)
        )
        process.start()
        assert process.pid is not None
        kills.started(process.pid)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    assert rescoring.rescore(settings, str(pictures), run, QUIET).missing == 0
    with sqlite3.connect(run.answers_path) as ledger:
        attempts = ledger.execute("SELECT prompt_id, state FROM attempts").fetchall()
    names = [name for name, state in attempts if state == "answered"]
    assert len(names) == len(set(names)) == 15  # pictures with other bytes
    lost = Counter(state for _, state in attempts)["in_flight"]
    assert lost <= 2 * 3  # of each kill what was on the wire, or written down and not sent yet
    assert len(server.asked) <= len(attempts) == 15 + lost
    asked = json.loads(run.header_path.read_text())["account"]
    assert (asked["answers"], asked["in_flight"], asked["spent"]) == (15, lost, 0.5 * (15 + lost))
    assert server.total_billed <= 15 + lost
    found = decisions(run)
    assert found["ghost", 0] == "ambiguous"
    assert [found["pilot", i] for i in range(4)] == ["woman", "man", "woman", "man"]
    everything = b"".join(p.read_bytes() for p in run.path.rglob("*") if p.is_file())
    assert KEY.encode() not in everything
    count = len(server.asked)
    # other margins are decided from the answers that are there; another question is asked
    (tmp_path / "gender.yaml").write_text(GENDER.replace("0.2", "0.4"))
    assert rescoring.rescore(settings, str(pictures), run, QUIET).work == {"scored": 16}
    assert len(server.asked) == count
    changed = config_of(server, tmp_path, instructions="Look well.")
    rescoring.rescore(changed, str(pictures), run, QUIET)
    assert len(server.asked) == count + 15


def test_the_cost_limit_ends_with_code_3_and_the_same_command_goes_on(
    server: LoopbackChatServer, pictures: Path, tmp_path: Path
) -> None:
    settings = config_of(server, tmp_path, price_per_answer=0.01, max_cost=0.06)
    config = tmp_path / "judge.yaml"
    config.write_text(json.dumps(settings.model_dump(mode="json")))
    run = RunFolder(tmp_path / "run")
    command = ["rescore", str(pictures), "--config", str(config), "--run", str(run.path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 3
    assert "note: classifier.max_cost of 0.06 leaves no room for another answer at 0.01" in done.stdout
    assert "images have no reading: not asked, because classifier.max_cost was reached (" in done.stdout
    assert server.total_billed == 6
    errors = pq.read_table(run.images_path)["error"].to_pylist()
    assert {error for error in errors if error} == {"not asked, because classifier.max_cost was reached"}
    assert CliRunner().invoke(app, command).exit_code == 3
    assert server.total_billed == 6
    done = CliRunner().invoke(app, [*command, "--set", "classifier.max_cost=1"])
    assert (done.exit_code, server.total_billed) == (0, 15), done.stdout
    assert "max_cost" not in done.stdout


def test_a_lost_ledger_gives_no_second_budget(
    server: LoopbackChatServer, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path / "run")
    rescoring.rescore(config_of(server, tmp_path, price_per_answer=0.01, max_cost=0.2), str(pictures), run, QUIET)
    assert server.total_billed == 15
    run.answers_path.unlink()
    other = config_of(server, tmp_path, price_per_answer=0.01, max_cost=0.2, instructions="Look well.")
    rescoring.rescore(other, str(pictures), run, QUIET)
    assert server.total_billed == 20  # what is left of 0.20 after the 0.15 that the first question took
    assert "answers.sqlite is missing, empty or an older copy. 15 answers" in caplog.text
    account = run.header().account or {}
    assert (account["answers"], account["spent"]) == (20, 0.2)


def test_a_lost_ledger_of_a_killed_command_is_counted_by_the_parts(
    server: LoopbackChatServer, pictures: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    settings = config_of(server, tmp_path, price_per_answer=0.01, max_cost=0.2)
    rescoring.rescore(settings, str(pictures), run, QUIET)
    run.update_header(account=None)  # as a kill before the command's end leaves it
    run.forget_stages("scores")
    run.answers_path.unlink()
    rescoring.rescore(settings, str(pictures), run, QUIET)
    assert server.total_billed == 15
    assert (run.header().account or {})["spent"] == 0.15


def test_refusals_malformed_answers_and_outages_are_rows_with_their_reason(
    server: LoopbackChatServer, pictures: Path, tmp_path: Path
) -> None:
    def plan(asked: Asked) -> Fault | None:
        return {1: Fault("moderation"), 3: Fault("status", status=500), 4: Fault("status", status=500)}.get(
            asked.number
        )

    server.plan = plan
    server.reply = lambda asked, text: "no" if asked.number == 2 else text
    run = RunFolder(tmp_path / "run")
    settings = config_of(server, tmp_path, concurrency=1)
    summary = rescoring.rescore(settings, str(pictures), run, QUIET)
    assert (summary.missing, summary.metrics.accounting.unreadable) == (3, 3)
    errors = [row["error"] for row in pq.read_table(run.images_path).to_pylist() if row["error"]]
    assert [error[:25] for error in errors] == [
        "the judge declined (moder", "the judge's answer: it ho", "no answer from the judge:",
    ]  # fmt: skip
    (note,) = [note.text for note in summary.metrics.notes if note.code == "images_unread"]
    assert note.startswith("3 images have no reading: ")
    assert "it holds no JSON: 'no'" in (run.path / "report.html").read_text().replace("&#39;", "'")
    asked = len(server.asked)
    assert rescoring.rescore(settings, str(pictures), run, QUIET).missing == 2  # the outage alone is asked about again
    assert len(server.asked) == asked + 1


def test_an_audit_tells_in_the_row_of_an_image_why_it_has_no_reading(
    server: LoopbackChatServer, tmp_path: Path
) -> None:
    server.plan = lambda asked: Fault("moderation") if asked.number == 2 else None
    server.reply = lambda asked, text: '{"people": [{"gender": "woman"}, {"gender": "man"}]}'
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("name: pairs\nprompts: [{id: pair, text: two nurses at work, people: several}]\n")
    planted = str(REPOSITORY / "configs" / "references" / "sandbox-planted.yaml")
    config = RunConfig.model_validate(
        {
            **config_of(server, tmp_path, concurrency=1).model_dump(exclude={"generator", "prompts"}),
            "prompts": {"file": str(prompts), "images_per_prompt": 3, "set_size": 3},
            "generator": {"backend": "portrait-renderer", "planted": planted, "size": 64},
        }
    )
    run = RunFolder(tmp_path / "run")
    assert auditing.audit(config, run, QUIET).missing == 1
    before = pq.read_table(run.images_path)
    assert [str(error)[:18] for error in before["error"].to_pylist() if error] == ["the judge declined"]
    assert set(before["status"].to_pylist()) == {"generated"}
    asked = len(server.asked)
    again = auditing.audit(config, run, QUIET)
    assert (pq.read_table(run.images_path), len(server.asked), again.missing) == (before, asked, 1)
    # the judge named both people of every picture: they were counted, and no detector is wanted
    scenes = again.metrics.group_scenes
    assert scenes is not None
    assert scenes.asked is not None
    assert (scenes.detector, scenes.asked.counted, scenes.asked.counts["mixed"]) == (f"the judge {MODEL}", 2, 2)
    assert "nobody_counted" not in {note.code for note in again.metrics.notes}
    assert "1 woman and 1 man" in (run.path / "report.html").read_text()


def test_everything_that_reads_a_run_reads_this_one(server: LoopbackChatServer, pictures: Path, tmp_path: Path) -> None:
    server.logprobs = lambda label: 0.9
    settings = config_of(server, tmp_path)
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    rescoring.rescore(settings, str(pictures), first, QUIET)
    server.logprobs = lambda label: 0.55
    rescoring.rescore(config_of(server, tmp_path, instructions="Look twice."), str(pictures), second, QUIET)
    opinion = report_again(first, second_opinions=[second]).metrics.second_opinion
    assert opinion is not None
    assert (opinion.agreement.value, opinion.images.both_decided) == (1.0, 14)
    with pytest.raises(RunFolderError, match="a judge keeps answers and no embeddings"):
        relabel(first, str(tmp_path / "gender.yaml"), RunFolder(tmp_path / "relabelled"), QUIET)
    assert draw(first, sample=8).images == 8
    with pytest.raises(RunFolderError, match="classifier"):
        load_runs([first.path, second.path]) and run_comparison([first.path, second.path], out=tmp_path / "c.html")
    third = RunFolder(tmp_path / "third")
    asked = len(server.asked)
    rescoring.rescore(settings, str(pictures), third, QUIET)
    assert len(server.asked) == asked + 15
    assert run_comparison([first.path, third.path], out=tmp_path / "c.html").comparison["summary"]

    labelled = tmp_path / "labelled"
    for label, colour in (("woman", RED), ("man", BLUE)):
        (labelled / label).mkdir(parents=True)
        for number in range(6):
            (labelled / label / f"{number}.png").write_bytes(solid(colour, 300 + number))
    asked = len(server.asked)
    for _ in range(2):
        result = run_calibration(settings, labelled, tmp_path / "calibration.json", None, QUIET)
        assert result["attributes"]["gender"]["accuracy"]["value"] == 1.0
    assert len(server.asked) == asked + 12
    assert report_again(first, tmp_path / "calibration.json").metrics.summary.unanimity_corrected is not None


def test_one_process_asks(server: LoopbackChatServer, pictures: Path, tmp_path: Path) -> None:
    settings, run = config_of(server, tmp_path), RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match="--rank is for classifiers on this machine"):
        rescoring.rescore_rank(settings, str(pictures), run, QUIET, rank=0, world_size=2)
    with pytest.raises(UsageError, match="--engine ray is for classifiers on this machine"):
        rescoring.rescore(settings, str(pictures), run, QUIET, engine_name="ray")
    assert not server.asked


def test_every_command_of_the_docs_runs_as_it_is_printed(
    server: LoopbackChatServer, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(doctor, "_device", lambda: doctor.Check("device", "ok", "not looked at here"))
    text = (REPOSITORY / "docs" / "judge.md").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("allfour ")]
    assert len(commands) == 5
    here = ("--set", f"classifier.base_url={server.base_url}", "--set", f"classifier.model={MODEL}")
    for number, command in enumerate(commands):
        asked, run = len(server.asked), tmp_path / f"run{number}"
        words = [{"ARCHIVE": str(pictures), "RUN": str(run)}.get(word, word) for word in shlex.split(command)[1:]]
        if words[0] == "rescore" and "--run" not in words:
            words += ["--run", str(run)]
        done = CliRunner().invoke(app, [*words, *here])
        assert done.exit_code == 0, (command, done.output)
        looked_at = 0 if words[0] == "doctor" else 8 if "--limit" in words else 15
        assert len(server.asked) == asked + looked_at, command
        if looked_at == 15:
            query = text.split('sqlite3 RUN/answers.sqlite "')[1].split('"')[0]
            with sqlite3.connect(run / "answers.sqlite") as ledger:
                assert ledger.execute(query).fetchone() == (900.0, 12.0)
