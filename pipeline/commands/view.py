"""`allfour view`: an index over the runs of a folder, on this machine's loopback address or as one static file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

from allfour.errors import UsageError
from allfour.files import read_regular
from allfour.pipeline.commands.view_live import Progress, WatchedRun, stat_of
from allfour.pipeline.report.index_page import (
    STUDY_PAGE,
    RunLine,
    find_runs,
    read_line,
    read_study_line,
    render_index,
)
from allfour.pipeline.report.live_page import LiveRun, render_live
from allfour.pipeline.run.record import STUDY_FILE
from allfour.pipeline.run.writing import sweep_beside, write_atomic

_PAGE = re.compile(r"/run/(\d{1,6})/(report\.html|prompts\.csv|study\.html|report/prompts-\d{3,}\.html)")
"""All that is served of a run or study: its pages and its table, by its place in the index."""
_CELL = re.compile(
    r"/run/(\d{1,6})/(cells/[A-Za-z0-9][A-Za-z0-9._\-]{0,159})/(report\.html|prompts\.csv|report/prompts-\d{3,}\.html)"
)
"""The same of a run of a study."""
_LIVE = re.compile(r"/run/(\d{1,6})/live")
LOOPBACK = "127.0.0.1"


def _runs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder. Give the folder that your runs are in, such as runs")
    return find_runs(folder)


def _is_study(run: Path) -> bool:
    return (run / STUDY_FILE).is_file()


def write_index(folder: Path, out: Path) -> Path:
    """Write the index as one file that links to the reports where they lie."""
    base = out.resolve().parent
    lines = []
    for run in _runs(folder):
        if run.resolve() == base:
            continue
        page = STUDY_PAGE if _is_study(run) else "report.html"
        link = quote(os.path.relpath(run.resolve() / page, base).replace(os.sep, "/"), errors="surrogateescape")
        lines.append(read_study_line(run, link) if _is_study(run) else read_line(run, link))
    sweep_beside(out)
    write_atomic(out, render_index(lines, folder.resolve().name).encode("utf-8", "replace"))
    return out


class IndexServer(ThreadingHTTPServer):
    """Serves the index, read anew at every request, and the pages of its runs."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        _runs(folder)
        self.folder = folder
        self._lines: dict[Path, tuple[object, RunLine]] = {}
        self._watched: dict[Path, WatchedRun] = {}
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"port {port} on this machine cannot be used ({error}). Leave out --port to take a free one"
            ) from None

    @property
    def address(self) -> str:
        """Where to look."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def content(self, path: str) -> tuple[bytes, str] | None:
        """A page and its type; None for everything else."""
        runs = find_runs(self.folder)
        if path == "/":
            lines = [self._line(number, run) for number, run in enumerate(runs)]
            page = render_index(lines, self.folder.resolve().name, live=True)
            return page.encode("utf-8", "replace"), "text/html"
        if (found := _LIVE.fullmatch(path)) and int(found[1]) < len(runs):
            run = runs[int(found[1])]
            return _live(run, self._look(run)).encode("utf-8", "replace"), "text/html"
        if (found := _PAGE.fullmatch(path)) and int(found[1]) < len(runs):
            return _file(runs[int(found[1])], found[2])
        if (found := _CELL.fullmatch(path)) and int(found[1]) < len(runs) and _is_study(runs[int(found[1])]):
            return _file(runs[int(found[1])] / found[2], found[3])
        return None

    def _look(self, run: Path) -> Progress:
        """How far a run is; what an earlier look has read is not read again."""
        return self._watched.setdefault(run, WatchedRun(run)).look()

    def _line(self, number: int, run: Path) -> RunLine:
        """What the index says of a run, kept until one of its documents changes."""
        state = tuple(stat_of(run / name) for name in ("run.json", "metrics.json", "study.json", "report.html"))
        known = self._lines.get(run)
        if known is not None and known[0] == (number, state) and known[1].finding:
            return known[1]
        if _is_study(run):
            line = read_study_line(run, f"run/{number}/{STUDY_PAGE}")
        else:
            line = read_line(run, f"run/{number}/report.html", count=lambda: self._look(run).done)
            if not line.finding and not line.link:
                line = dataclasses.replace(line, link=f"run/{number}/live")
        self._lines[run] = ((number, state), line)
        return line


def _file(run: Path, name: str) -> tuple[bytes, str] | None:
    file = run.resolve() / name
    if file.resolve() != file:  # no link out of the run
        return None
    try:
        return read_regular(file), "text/html" if file.suffix == ".html" else "text/csv"
    except OSError:  # none, or one that is being made anew
        return None


def _live(run: Path, now: Progress) -> str:
    """The page of a run that has no finding yet."""
    line = read_line(run, "", count=lambda: now.done)
    root = run.resolve()
    files = [(prompt, root / path) for prompt, path in now.pictures]
    return render_live(
        LiveRun(
            name=line.name, subject=line.subject, notice=line.notice, now=now.now, done=now.done, scored=now.scored, total=now.total,
            refused=now.counts.get("refused", 0), failed=now.counts.get("failed", 0), left=now.seconds_left, spent=now.spent,
            pictures=[(prompt, file) for prompt, file in files if file.is_relative_to(root) and file.resolve() == file and file.is_file()],
        )
    )  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    server: IndexServer

    def do_GET(self) -> None:
        """A page, to whoever is still there."""
        with contextlib.suppress(ConnectionError):
            self._answer()

    def _answer(self) -> None:
        """Only to who asks for this machine by name: a page elsewhere cannot read it under a name of its own."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        content = self.server.content(urlsplit(self.path).path) if host in (LOOPBACK, "localhost") else None
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body, kind = content
        self.send_response(HTTPStatus.OK)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The terminal stays quiet."""
