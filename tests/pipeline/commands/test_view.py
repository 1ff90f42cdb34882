"""The index over runs: what it says of each, what it serves, and what it does not."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import socket
import struct
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import EpsImagePlugin, Image

from allfour.errors import UsageError
from allfour.files import read_regular
from allfour.pipeline.commands import view, view_live
from allfour.pipeline.commands.view import IndexServer, write_index
from allfour.pipeline.commands.view_live import WatchedRun, pace_of
from allfour.pipeline.config import load_config
from allfour.pipeline.metrics.asked_for import with_asked
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.report import index_page, write_report
from allfour.pipeline.report.index_page import RunLine, notices_of, read_line, render_index
from allfour.pipeline.run import activity as activity_module
from allfour.pipeline.run.activity import activity
from allfour.pipeline.run.asked import AskedPrompt
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.study import StudyCell, StudyResult
from tests.browser import NEEDS_CHROMIUM, axe_source, chromium, violations
from tests.pipeline.metrics.test_compute import LABELS, build
from tests.pipeline.report.fixture_run import Options, build_run

NOW = 1_900_000_000.0
"""When everything here is looked at, however long a test takes."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (activity_module, index_page, view_live):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(time=lambda: NOW))


def news(journal: Path, *, age: float) -> None:
    """Let a file be of so many seconds ago."""
    os.utime(journal, (NOW - age, NOW - age))


def outcome(**values: object) -> str:
    """One line of a journal."""
    line = {
        "prompt_id": "a",
        "index": 0,
        "status": "generated",
        "fingerprint": "x",
        "seed": 1,
        "sha256": "0" * 64,
        "size": 9,
    }
    return json.dumps({**line, "path": f"images/a/{values.get('index', 0)}.png", **values}) + "\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, one that works, a damaged one with a hostile name, and a folder that is no run."""
    folder = tmp_path_factory.mktemp("all") / "runs"
    write_report(build_run(folder / "done", Options(prompts=3, pictures=False)))
    (folder / "busy").mkdir()
    (folder / "busy" / "run.json").write_text('{"format": 1, "name": "busy"}')
    (folder / "busy" / "outcomes.jsonl").write_text("".join(outcome(index=index) for index in range(2)))
    news(folder / "busy" / "outcomes.jsonl", age=1)
    (folder / "<script>x").mkdir()
    (folder / "<script>x" / "run.json").write_text("{")
    (folder / "other").mkdir()
    return folder


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[IndexServer]:
    """A server of the folder that answers until the block ends."""
    found = IndexServer(folder)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[IndexServer]:
    with serving(runs) as found:
        yield found


def get(server: IndexServer, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_a_run_whose_finding_is_damaged_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1, "name": "x"}')
    (tmp_path / "metrics.json").write_text('{"format": 1, "summa')
    line = read_line(tmp_path, "")
    assert "metrics.json" in line.state and "not valid JSON" in line.state
    assert not line.working


@pytest.mark.parametrize(
    ("made", "written", "damaged"),
    [(60, 30, True), (60, 2, False), (30, 60, False), (200, 300, True)],
    ids=["after the last image", "this moment", "before a rerun's images", "a rerun that stopped"],
)
def test_a_damaged_finding_is_told_from_one_that_is_being_written(
    tmp_path: Path, made: float, written: float, damaged: bool
) -> None:
    (tmp_path / "run.json").write_text('{"format": 1, "name": "x"}')
    for name, text, age in (("outcomes.jsonl", outcome(), made), ("metrics.json", '{"format": 1, "summa', written)):
        (tmp_path / name).write_text(text)
        news(tmp_path / name, age=age)
    state = read_line(tmp_path, "").state
    assert ("not valid JSON" in state) is damaged
    assert ("1 image so far" in state) is not damaged


@pytest.mark.parametrize(
    ("times", "now", "pace"),
    [
        ([0, 30], 31, 30),
        ([n / 50 for n in range(8)], 9, None),
        ([n / 50 for n in range(8)] + [10 + n / 50 for n in range(8)], 15, 1.25),
        ([n / 100 for n in range(200)], 2, 0.011),
        ([5], 6, None),
        ([], 6, None),
    ],
    ids=["one by one", "the first batch", "two batches", "fast", "one image", "none"],
)
def test_the_pace_is_that_of_batches_and_none_is_told_from_one_alone(
    times: list[float], now: float, pace: float | None
) -> None:
    found = pace_of(times, now=now)
    assert found is None if pace is None else found == pytest.approx(pace, rel=0.05)


def test_a_notice_of_several_runs_is_said_once(tmp_path: Path) -> None:
    line = read_line(tmp_path, "")
    shared = [
        dataclasses.replace(line, notice=notice) for notice in ("Drawn world, x", "Drawn world, x", "own", "y", "y")
    ]
    page = render_index(shared, "runs")
    assert notices_of(shared) == {"Drawn world, x": "Drawn world", "y": "Note 2"}
    assert page.count("Drawn world, x") == page.count("<bdi>own</bdi>") == 1
    assert page.count("Drawn world</small>") == page.count("Note 2</small>") == 2


def line_of(tmp_path: Path, prompts: Mapping[str, Sequence[Any]], *, asking: Sequence[str] = ()) -> RunLine:
    """The index's line of a run with such images, some of whose prompts ask for a woman."""
    run = build(tmp_path, dict(prompts))
    run.update_header(name="run")
    asked = {key: AskedPrompt(expect={"gender": "woman"}) for key in asking}
    counted = tally(run, attributes=list(LABELS), set_size=4)
    metrics = compute_metrics(counted, labels=LABELS, headline="gender", set_size=4, asked=asked)
    metrics = with_asked(metrics, counted.prompts, asked)
    write_report(run.path, metrics)
    run.metrics_path.write_text(json.dumps(metrics.document()), encoding="utf-8")
    return read_line(run.path, "")


def squares(line: RunLine) -> dict[str, int]:
    """Squares of a line, by colour."""
    return {kind: path.count("M") for path, kind in re.findall(r'd="([^"]*)" class="cell s-(.)"', line.squares)}


def test_squares_of_many_prompts_are_an_even_sample(tmp_path: Path) -> None:
    """The first ones of the ranking would all be of one colour: 100 all women, and 50 all men that nobody saw."""
    sets = [["woman"] * 4] * 100 + [["woman", "man", "man", "man"]] * 150 + [["man"] * 4] * 50
    line = line_of(tmp_path, {f"p{number:03}": images for number, images in enumerate(sets)})
    assert squares(line) == {"a": 20, "u": 30, "b": 10}
    assert "of a run with more than 60 prompts, an even sample of 60 through its ranking" in render_index(
        [line], "runs"
    )


def test_squares_are_of_prompts_that_the_finding_counts(tmp_path: Path) -> None:
    """Neither those that ask for a label, nor those without a whole set."""
    prompts = {"asks": ["woman"] * 4, "short": ["woman"], **{f"p{i}": ["man", "woman", "man", "man"] for i in range(5)}}
    line = line_of(tmp_path / "some", prompts, asking=["asks"])
    assert squares(line) == {"u": 5}
    assert "even sample" not in render_index([line], "runs")
    none = line_of(tmp_path / "none", {"short": ["woman"]})
    assert squares(none) == {} and none.finding == "no prompt has four images"
    assert squares(line_of(tmp_path / "all", {"asks": ["woman"] * 4}, asking=["asks"])) == {}


def test_every_run_has_a_line_and_the_finished_one_a_link(server: IndexServer) -> None:
    status, page = get(server, "/")
    assert status == 200
    assert page.count("<tr data-name=") == 3
    assert "2 images so far" in page
    assert "is not valid JSON" in page
    assert "<script>x" not in page
    assert 'href="run/2/report.html"' in page
    assert get(server, "/run/2/report.html")[0] == 200


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/run/2/metrics.json", None),
        ("/run/2/../../secret", None),
        ("/run/9/report.html", None),
        ("/run/1/report.html", None),
        ("/", "attacker.example"),
    ],
)
def test_nothing_else_is_served(server: IndexServer, path: str, host: str | None) -> None:
    assert get(server, path, host)[0] == 404


def test_a_link_out_of_a_run_is_not_followed(server: IndexServer, runs: Path) -> None:
    secret = runs.parent / "secret"
    secret.mkdir()
    (secret / "prompts-001.html").write_text("secret")
    (runs / "busy" / "report").symlink_to(secret)
    assert get(server, "/run/1/report/prompts-001.html")[0] == 404


def test_the_static_index_links_to_the_reports_and_leaves_runs_as_they_are(runs: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in runs.rglob("*") if path.is_file())
    page = write_index(runs, runs.parent / "index.html").read_text()
    assert 'href="runs/done/report.html"' in page
    assert sorted((path, path.stat().st_mtime_ns) for path in runs.rglob("*") if path.is_file()) == before
    with pytest.raises(UsageError, match="is not a folder"):
        write_index(runs / "absent", runs.parent / "x.html")


# --- what works now, and studies -------------------------------------------------------------------------------------


def working_run(folder: Path) -> Path:
    """Three of four images asked for, one of them refused, and a line that leads out of the run."""
    run = folder / "working"
    (run / "images" / "a").mkdir(parents=True)
    (folder / "p.yaml").write_text("name: p\nprompts: [{id: a, text: a nurse}]\n", encoding="utf-8")
    config = load_config(Path("sandbox"), [f"prompts.file={folder / 'p.yaml'}", "generator.backend=portrait-renderer"])
    header = {
        "format": 1,
        "name": "working",
        "config": config.model_dump(mode="json"),
        "created": "2026-11-26T00:00:00Z",
    }
    (run / "run.json").write_text(json.dumps(header), encoding="utf-8")
    for index in range(2):
        Image.new("RGB", (64, 64), (200, 30 * index, 0)).save(run / "images" / "a" / f"{index}.png")
    Image.new("RGB", (64, 64)).save(folder / "outside.png")
    lines = [
        {"index": 0, "prompt": "a <b>nurse"},
        {"index": 1, "prompt": "a nurse"},
        {"index": 2, "prompt": "a nurse", "status": "refused", "path": None, "error": "no"},
        {"index": 3, "prompt": "a nurse", "path": "../outside.png"},
    ]
    (run / "outcomes.jsonl").write_text("".join(outcome(**line) for line in lines), encoding="utf-8")
    news(run / "outcomes.jsonl", age=1)
    return run


@pytest.fixture
def live_server(tmp_path: Path) -> Iterator[IndexServer]:
    working_run(tmp_path)
    with serving(tmp_path) as found:
        yield found


def test_a_run_that_works_shows_counts_and_pictures_and_loads_itself_again(live_server: IndexServer) -> None:
    index = get(live_server, "/")[1]
    assert 'href="run/0/live"' in index
    assert 'data-seconds="5">Pause</button>' in index
    page = get(live_server, "/run/0/live")[1]
    assert "3 of 4 images so far" in page
    assert "1 refused" in page
    assert '<noscript><meta http-equiv="refresh" content="4"></noscript>' in page
    assert page.count("data:image/jpeg") == 2  # what leads out of the run is not read
    assert "a &lt;b&gt;nurse" in page
    assert get(live_server, "/run/1/live")[0] == 404


@pytest.mark.browser
@NEEDS_CHROMIUM
@pytest.mark.slow
def test_axe_finds_nothing_on_the_index_and_on_a_live_page_and_reloading_can_be_paused(
    server: IndexServer, live_server: IndexServer
) -> None:
    axe = axe_source()
    with chromium() as browser:
        for scheme in ("light", "dark"):
            page = browser.new_context(color_scheme=scheme, bypass_csp=True).new_page()
            for port, path in ((server.server_address[1], "/"), (live_server.server_address[1], "/run/0/live")):
                page.goto(f"http://127.0.0.1:{port}{path}")
                page.evaluate(axe)
                assert violations(page) == [], (scheme, path)
        page.evaluate("window.loadedOnce = true")
        page.wait_for_function("!window.loadedOnce", timeout=60_000)
        page.get_by_role("button", name="Pause").click()
        page.reload()
        assert page.get_by_role("button", name="Go on").get_attribute("aria-pressed") == "true"


def test_a_look_reads_on_where_the_last_one_ended(tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir()
    log = run / "outcomes.jsonl"
    log.write_text(outcome(index=0) + outcome(index=1) + outcome(index=2)[:9], encoding="utf-8")
    watched = WatchedRun(run)
    assert watched.look().done == 2  # a torn line is none yet
    first = log.read_text().splitlines(keepends=True)
    log.write_text(
        "x" * (len(first[0]) - 1) + "\n" + first[1] + outcome(index=2) + outcome(index=1, status="failed", path=None)
    )
    now = watched.look()
    assert (now.done, now.counts) == (
        3,
        {"generated": 2, "failed": 1},
    )  # the first line is not read again; the newest of an image counts
    log.write_text(outcome(index=7))
    assert watched.look().counts == {"generated": 1}  # written anew


def test_a_run_of_an_archive_counts_the_parts_that_were_scored(tmp_path: Path) -> None:
    run = tmp_path / "r"
    (run / "parts").mkdir(parents=True)
    for name, images in (("0", 40), ("1", 2)):
        (run / "parts" / f"part-{name}.json").write_text(json.dumps({"images": images}))
    (run / "parts" / "part-1.attempts.json").write_text('{"attempts": 1}')
    (run / "run.json").write_text('{"format": 1, "name": "busy"}')
    server = IndexServer(tmp_path)
    try:
        assert b"42 images so far" in (server.content("/run/0/live") or (b"", ""))[0]
        assert b"42 images so far" in (server.content("/") or (b"", ""))[0]
    finally:
        server.server_close()


def test_a_picture_that_only_a_program_could_draw_is_not_shown(
    live_server: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_it(*_: object, **__: object) -> None:
        raise AssertionError("a program was run for a picture")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run_it)
    Image.new("RGB", (64, 64)).save(live_server.folder / "working" / "images" / "a" / "0.png", "EPS")
    assert get(live_server, "/run/0/live")[1].count("data:image/jpeg") == 1


def test_a_run_that_stands_still_is_said_to_have_stopped(live_server: IndexServer) -> None:
    news(live_server.folder / "working" / "outcomes.jsonl", age=10_000)
    page = get(live_server, "/run/0/live")[1]
    assert "repeat its command to go on" in page
    assert 'http-equiv="refresh"' not in page
    assert 'http-equiv="refresh"' not in get(live_server, "/")[1]


def test_a_run_whose_process_was_killed_is_said_to_have_ended_at_once(live_server: IndexServer) -> None:
    run, page = live_server.folder / "working", "/run/0/live"
    with RunFolder(run).lock():
        news(run / "outcomes.jsonl", age=10_000)  # one image may take long: its process is there
        assert "3 of 4 images so far<" in get(live_server, page)[1]
        assert "nothing new for " in get(live_server, page)[1]
        news(run / "outcomes.jsonl", age=1)
    ended = get(live_server, page)[1]
    assert "its process has ended: repeat its command to go on" in ended
    assert "left" not in ended.partition("<main")[2]
    assert "3 images so far; stopped" in get(live_server, "/")[1]


def test_a_run_of_another_machine_is_told_by_its_silence(live_server: IndexServer) -> None:
    run, page = live_server.folder / "working", "/run/0/live"
    with RunFolder(run).lock():
        pass
    (run / ".lock").write_text("563d1aaa-5f85-4f1d-815d-b36ddc9e3f30\n")
    assert "repeat its command" not in get(live_server, page)[1]
    news(run / "outcomes.jsonl", age=40)
    assert "nothing new for 40.0 s" in get(live_server, page)[1]
    with RunFolder(run).lock(shared=True):
        assert activity(run).held
    assert activity(run).held is None  # either machine may have a rank at work


def test_what_is_gone_between_two_looks_at_it_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker takes its attempt back, and a page gives way to a new one, at the worst moment."""
    attempt, page = tmp_path / "parts" / "part-1.attempts.json", tmp_path / "report.html"
    attempt.parent.mkdir()
    attempt.write_text('{"attempts": 1}')
    (tmp_path / "outcomes.jsonl").write_text(outcome())
    (tmp_path / "run.json").write_text('{"format": 1, "name": "busy"}')
    page.write_text("of before")
    stat = Path.stat

    def as_it_goes(path: Path, **options: bool) -> os.stat_result:
        if path == attempt:
            path.unlink()
        return stat(path, **options)

    def as_it_is_made_anew(path: Path) -> bytes:
        path.unlink()
        return read_regular(path)

    monkeypatch.setattr(Path, "stat", as_it_goes)
    monkeypatch.setattr(view, "read_regular", as_it_is_made_anew)
    assert activity(tmp_path).silent is not None
    server = IndexServer(tmp_path)
    try:
        assert server.content("/run/0/report.html") is None
    finally:
        server.server_close()


def test_who_leaves_before_the_answer_is_nothing_to_tell(
    live_server: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a browser does whose page is left while it loads."""
    ended, errors, end = threading.Event(), list[object](), live_server.shutdown_request
    client = socket.create_connection(live_server.server_address)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed at once, with a reset

    def as_it_leaves(path: str) -> tuple[bytes, str]:
        client.close()
        return b"x" * 2**24, "text/html"

    monkeypatch.setattr(live_server, "content", as_it_leaves)
    monkeypatch.setattr(live_server, "handle_error", lambda *error: errors.append(error))
    monkeypatch.setattr(live_server, "shutdown_request", lambda request: (end(request), ended.set()))
    client.sendall(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    assert ended.wait(60)
    assert errors == []


def test_a_study_is_one_line_with_its_page_and_the_pages_of_its_runs(tmp_path: Path) -> None:
    study = tmp_path / "s"
    write_report(build_run(study / "cells" / "one", Options(prompts=3, pictures=False)))
    cells = [StudyCell(name="one", path="cells/one"), StudyCell(name="two", path="cells/two", state="failed")]
    (study / "study.json").write_text(json.dumps(StudyResult(name="three <b>models", cells=cells).document()))
    (study / "study.html").write_text("<p>the study</p>")
    server = IndexServer(tmp_path)
    try:
        page, _ = server.content("/") or (b"", "")
        assert b"study of 2 runs, 1 done" in page
        assert b'href="run/0/study.html"' in page
        assert server.content("/run/0/study.html") == (b"<p>the study</p>", "text/html")
        assert server.content("/run/0/cells/one/report.html") is not None
        for path in ("/run/0/cells/../../x/report.html", "/run/0/cells/one/run.json", "/run/0/cells/no/report.html"):
            assert server.content(path) is None
    finally:
        server.server_close()
    assert "s/study.html" in write_index(tmp_path, tmp_path / "index.html").read_text()


def test_a_line_is_read_again_when_its_run_changes(tmp_path: Path) -> None:
    run = build_run(tmp_path / "r", Options(prompts=3, pictures=False))
    server = IndexServer(tmp_path)
    try:
        first = server._line(0, run)
        assert server._line(0, run) is first
        document = json.loads((run / "metrics.json").read_text())
        document["summary"]["headline"] = None
        document["summary"]["unanimity"] |= {"value": 0.123}
        (run / "metrics.json").write_text(json.dumps(document))
        assert server._line(0, run).value == 0.123
    finally:
        server.server_close()
