"""Only regular files are read: whatever else stands in their place is an error, and never waited on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from allfour.errors import ConfigError, RunFolderError
from allfour.files import read_regular
from allfour.pipeline.config import read_yaml
from allfour.pipeline.run.documents import ReportError, read_metrics
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.journal import Journal

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", tmp_path, Path("/dev/zero")):
            with pytest.raises(OSError, match=r"regular|directory|device"):
                read_regular(path)
    (tmp_path / "file").write_bytes(b"x")
    assert read_regular(tmp_path / "file") == b"x"


def test_pipes_in_a_run_folder_and_as_a_config_end_in_one_error(tmp_path: Path) -> None:
    for name in ("run.json", "metrics.json", "outcomes.jsonl", "config.yaml"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(RunFolderError, match="not a run header"):
        RunFolder(tmp_path).header()
    with pytest.raises(ReportError):
        read_metrics(tmp_path)
    with pytest.raises(OSError, match="no regular file"):
        Journal(tmp_path / "outcomes.jsonl").read()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "config.yaml")
