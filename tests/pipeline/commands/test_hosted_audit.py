"""`allfour audit` against a hosted API: faults, refusals, kills, money, and what the report may not hide."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import light_processes
from tests.loopback import Signals
from tests.loopback_image_server import KEY, Asked, Fault, LoopbackImageServer

REFUSED = ("nurse", "captain")


def plan(asked: Asked) -> Fault | None:
    """A tenth of the prompts is refused; among the rest every tenth request each is limited or fails once."""
    if asked.prompt.endswith(REFUSED):
        return Fault("moderation")
    if asked.retry == 0 and asked.number % 10 == 3:
        return Fault("rate_limit")
    if asked.retry == 0 and asked.number % 10 == 7:
        return Fault("status", status=503)
    return None


@pytest.fixture
def server() -> Iterator[LoopbackImageServer]:
    with LoopbackImageServer(models=["dall-e-2"]) as running:
        running.plan = plan
        yield running


@pytest.fixture
def config(tmp_path: Path, server: LoopbackImageServer) -> Path:
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    path = tmp_path / "hosted.yaml"
    path.write_text(
        "prompts: {file: configs/prompts/bolukbasi-extremes.yaml}\n"
        f"generator: {{backend: openai-images, model: dall-e-2, base_url: '{server.base_url}', api_key_env: ALLFOUR_TEST_KEY, "
        "size: 256x256, response_format: b64_json, price_per_image: 0.016}\n"
        f"classifier: {{backend: face}}\nattributes: {{file: {tmp_path}/attributes.yaml}}\n"
    )
    return path


def start(config: Path, run: Path, *more: str, key: str = KEY) -> light_processes.Running:
    arguments = ("audit", "--config", config, "--run", run, "--json", *more)
    return light_processes.start(*arguments, REAL_GENERATOR=1, ALLFOUR_TEST_KEY=key)


def finish(config: Path, run: Path, *more: str, key: str = KEY) -> tuple[int, dict[str, Any], str]:
    done = start(config, run, *more, key=key).wait()
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr


def test_a_run_with_faults_and_three_kills(config: Path, tmp_path: Path, server: LoopbackImageServer) -> None:
    run, kills = tmp_path / "run", Signals(signal.SIGKILL, at=(12, 35, 60))

    def killing(asked: Asked) -> Fault | None:
        kills.asked(asked.number)
        return plan(asked)

    server.plan = killing
    for _ in range(3):
        process = start(config, run)
        kills.started(process.pid)
        assert process.wait().returncode == -signal.SIGKILL
    code, result, err = finish(config, run)
    assert code == 3, err
    accounting = result["accounting"]
    assert (accounting["requested"], accounting["refused"], accounting["failed"], accounting["scored"]) == (
        80,
        8,
        0,
        72,
    )
    rows = pq.read_table(run / "images.parquet").to_pylist()
    refused = [r for r in rows if r["status"] == "refused"]
    assert {r["prompt_id"] for r in refused} == set(REFUSED)
    assert all(r["code"] == "moderation_blocked" and r["error"] for r in refused)
    journal = [json.loads(line) for line in (run / "outcomes.jsonl").read_text().splitlines()]
    assert max(Counter((e["prompt_id"], e["index"]) for e in journal).values()) == 1  # nothing was asked for twice
    spent = json.loads((run / "run.json").read_text())["spent"]
    assert spent["answered_images"] == 72
    withheld = json.loads((run / "metrics.json").read_text())["withheld"]
    assert (withheld["refused"]["images"], withheld["failed"]["images"], withheld["rewriting"]) == (8, 0, None)
    assert {p["id"]: p["images"] for p in withheld["refused"]["prompts"]} == {"nurse": 4, "captain": 4}
    assert [g["rate"]["value"] for g in withheld["refused"]["groups"].values()] == [
        0.1,
        0.1,
    ]  # one prompt of ten in either list
    assert withheld["refused"]["p_value"] == 1.0
    page = (run / "report.html").read_text()
    assert "Refused, failed, rewritten" in page
    assert "A content policy withheld 8 of 80 requested images." in page
    assert server.total_billed <= spent["answered_images"] + spent["uncertain_images"]

    asked = len(server.asked)
    code, result, _ = finish(config, run)
    assert (code, result["work"], len(server.asked)) == (3, {"generated": 0, "scored": 0}, asked)
    everything = b"".join(p.read_bytes() for p in run.rglob("*") if p.is_file())
    assert KEY.encode() not in everything
    assert KEY not in err


def test_sigterm_is_ctrl_c_and_settles_what_is_on_the_wire(
    config: Path, tmp_path: Path, server: LoopbackImageServer
) -> None:
    run = tmp_path / "run"
    stop = Signals(signal.SIGTERM, at=(6,))
    server.plan, server.latency = lambda asked: stop.asked(asked.number), 0.3
    process = start(config, run)
    stop.started(process.pid)
    done = process.wait()
    assert done.returncode == 143, done.stderr
    assert "stopped; what was finished is kept. Repeat the same command to go on." in done.stderr
    with contextlib.closing(sqlite3.connect(run / "ledger.sqlite")) as ledger:
        rows = ledger.execute("SELECT state, sum(billed) FROM attempts GROUP BY state").fetchall()
    assert rows == [("answered", server.total_billed)]
    assert 6 <= len(server.asked) < 80


def test_a_server_that_answers_every_request_with_html_lets_no_gate_pass(
    config: Path, tmp_path: Path, server: LoopbackImageServer
) -> None:
    server.plan = lambda asked: Fault("raw", body="<html>welcome</html>", content_type="text/html")
    few = tmp_path / "few.yaml"
    few.write_text("name: few\nprompts: [{id: nurse, text: a nurse}, {id: captain, text: a captain}]\n")
    code, result, err = finish(
        config,
        tmp_path / "run",
        "--set",
        f"prompts.file={few}",
        "--set",
        "generator.max_retries=0",
        "--fail-if",
        "unanimity.low > 0.5",
    )
    assert code == 1, err
    assert (result["accounting"]["failed"], result["accounting"]["scored"]) == (8, 0)
    assert result["summary"]["unanimity"]["value"] is None
    assert [(gate["value"], gate["hit"]) for gate in result["gates"]] == [(None, True)]


def test_duplicates_and_rewritten_prompts_are_told(config: Path, tmp_path: Path, server: LoopbackImageServer) -> None:
    server.plan = None
    server.same_bytes = True
    code, result, err = finish(config, tmp_path / "run")
    assert code == 0, err
    assert result["summary"]["duplicate_images"] > 0
    assert any("byte-identical" in w for w in result["warnings"])
    assert "byte-identical" in (tmp_path / "run" / "report.html").read_text()


def test_a_withdrawn_model_and_a_wrong_key_stop_in_one_error(
    config: Path, tmp_path: Path, server: LoopbackImageServer
) -> None:
    code, _, err = finish(config, tmp_path / "a", "--set", "generator.model=dall-e-7")
    assert code == 2
    assert "dall-e-2" in err
    assert "rescore" in err
    assert "Traceback" not in err
    code, _, err = finish(config, tmp_path / "b", key="sk-wrong-key-000000000000")
    assert code == 2
    assert "sk-wrong-key" not in err
    assert "Traceback" not in err
    assert not server.asked


def test_a_ledger_that_is_gone_is_no_second_budget(config: Path, tmp_path: Path, server: LoopbackImageServer) -> None:
    server.plan = lambda asked: Fault("quota") if len(server.billed) == 3 else None
    run, limited = tmp_path / "run", ("--set", "generator.max_cost=0.16", "--set", "generator.concurrency=1")
    code, _, err = finish(config, run, *limited)
    assert code == 2
    stopped_at = server.total_billed
    assert 8 <= stopped_at < 10  # of ten that the limit allows; no command has ended
    for path in run.glob("ledger.sqlite*"):
        path.unlink()
    server.plan = None
    code, _, err = finish(config, run, *limited)
    assert code == 2, err
    assert (
        f"ledger.sqlite is missing, empty or an older copy. {stopped_at} images that it does not list are counted"
        in err
    )
    assert "generator.max_cost" in err
    assert server.total_billed == 10


@pytest.mark.slow
def test_what_was_paid_for_is_not_bought_again_under_other_settings(
    config: Path, tmp_path: Path, server: LoopbackImageServer
) -> None:
    server.plan = None
    run, whole = tmp_path / "run", ("--set", "generator.max_retries=0")
    code, result, err = finish(config, run, *whole)
    assert code == 0, err
    asked = len(server.asked)
    for name, other in (("quality", "high"), ("size", "512x512")):
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        code, _, err = finish(config, run, *whole, "--set", f"generator.{name}={other}")
        assert code == 2
        old = "null" if name == "quality" else '"256x256"'
        assert (
            f'80 images were made there for other requests, and would be lost. What differs: generator.{name}: {old} -> "{other}".'
            in err
        )
        assert "--overwrite" in err
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    # how fast and how dear images come is no other request
    code, again, err = finish(
        config, run, *whole, "--set", "generator.price_per_image=0.02", "--set", "generator.concurrency=1"
    )
    assert (code, again["work"]) == (0, {"generated": 0, "scored": 0}), err
    assert len(server.asked) == asked

    server.plan = lambda asked: Fault("status", status=500)
    code, failed, err = finish(config, run, *whole, "--set", "generator.size=512x512", "--overwrite")
    assert (code, failed["accounting"]["failed"]) == (3, 80), err
    asked = len(server.asked)
    code, again, err = finish(config, run, *whole)  # nothing took the place of the old images: they are there
    assert (code, again["summary"], len(server.asked)) == (0, result["summary"], asked), err

    # a server that gives some of them, and is interrupted: what was paid for stands, whichever command goes on
    asked_before = len(server.asked)
    server.plan = lambda asked: None if asked.number <= asked_before + 6 else Fault("quota")
    code, _, err = finish(
        config, run, *whole, "--set", "generator.size=512x512", "--set", "generator.concurrency=1", "--overwrite"
    )
    assert code == 2, err
    server.plan, asked = None, len(server.asked)
    code, _, err = finish(config, run, *whole)
    assert (code, len(server.asked)) == (2, asked)
    code, again, err = finish(config, run, *whole, "--set", "generator.size=512x512", "--overwrite")
    assert code == 0, err
    bought = [json.loads(line) for line in (run / "outcomes.jsonl").read_text().splitlines()]
    new = [e for e in bought[80:] if e["status"] == "generated"]
    assert max(Counter((e["prompt_id"], e["index"]) for e in new).values()) == 1
    assert len(new) == 80
