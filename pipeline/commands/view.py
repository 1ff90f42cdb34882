"""`allfour view`: an index over the runs of a folder, on this machine's loopback address or as one static file."""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

from allfour.errors import UsageError
from allfour.pipeline.report.index_page import find_runs, read_line, render_index
from allfour.pipeline.run.folder import sweep_beside, write_atomic

_PAGE = re.compile(r"/run/(\d{1,6})/(report\.html|prompts\.csv|report/prompts-\d{3,}\.html)")
"""All that is served of a run: its pages and its table, by the run's place in the index."""
LOOPBACK = "127.0.0.1"


def _runs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the one that your runs are in, such as runs")
    return find_runs(folder)


def write_index(folder: Path, out: Path) -> Path:
    """Write the index as one file that links to the reports where they lie."""
    base = out.resolve().parent
    lines = [
        read_line(run, quote(os.path.relpath(run.resolve() / "report.html", base).replace(os.sep, "/")))
        for run in _runs(folder)
        if run.resolve() != base
    ]
    sweep_beside(out)
    write_atomic(out, render_index(lines, folder.resolve().name).encode("utf-8", "replace"))
    return out


class IndexServer(ThreadingHTTPServer):
    """Serves the index, read anew at every request, and the pages of its runs."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        _runs(folder)
        self.folder = folder
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"port {port} of this machine cannot be used ({error}); leave --port out to take a free one"
            ) from None

    @property
    def address(self) -> str:
        """Where to look."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def content(self, path: str) -> tuple[bytes, str] | None:
        """A page and its type; None for everything else."""
        runs = find_runs(self.folder)
        if path == "/":
            lines = [read_line(run, f"run/{number}/report.html") for number, run in enumerate(runs)]
            return render_index(lines, self.folder.resolve().name).encode("utf-8", "replace"), "text/html"
        found = _PAGE.fullmatch(path)
        if found is None or int(found[1]) >= len(runs):
            return None
        run = runs[int(found[1])].resolve()
        file = run / found[2]
        if file.resolve() != file or not file.is_file():  # no link out of the run
            return None
        return file.read_bytes(), "text/html" if file.suffix == ".html" else "text/csv"


class _Handler(BaseHTTPRequestHandler):
    server: IndexServer

    def do_GET(self) -> None:
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
