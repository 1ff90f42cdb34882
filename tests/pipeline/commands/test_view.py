"""The index over runs: what it says of each, what it serves, and what it does not."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from allfour.errors import UsageError
from allfour.pipeline.commands.view import IndexServer, write_index
from allfour.pipeline.report import write_report
from tests.pipeline.report.fixture_run import Options, build_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, one that works, a damaged one with a hostile name, and a folder that is no run."""
    folder = tmp_path_factory.mktemp("all") / "runs"
    write_report(build_run(folder / "done", Options(prompts=3, pictures=False)))
    (folder / "busy").mkdir()
    (folder / "busy" / "run.json").write_text('{"format": 1, "name": "busy"}')
    (folder / "busy" / "outcomes.jsonl").write_text("{}\n{}\n")
    (folder / "<script>x").mkdir()
    (folder / "<script>x" / "run.json").write_text("{")
    (folder / "other").mkdir()
    return folder


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[IndexServer]:
    found = IndexServer(runs)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def get(server: IndexServer, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    said = answer.read().decode()
    connection.close()
    return answer.status, said


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
    with pytest.raises(UsageError, match="is no folder"):
        write_index(runs / "absent", runs.parent / "x.html")
