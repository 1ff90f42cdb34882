"""Only regular files are read: whatever else stands in their place is an error, and never waited on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from allfour.errors import ClassifierError, ConfigError, InputError, RunFolderError
from allfour.files import read_regular
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers._clip.rules import read_mapping
from allfour.models.classifiers._recorded import rows_of
from allfour.models.classifiers.linear_probe import Probe
from allfour.pipeline.analyses.labelled_images import open_labelled
from allfour.pipeline.config import read_yaml
from allfour.pipeline.metrics.calibration import read_calibration
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


def test_pipes_as_files_that_a_config_or_a_command_names(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    attributes = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"woman": ["w"], "man": ["m"]}}}})
    with pytest.raises(InputError, match="no such file"):
        open_labelled(pipe, attributes)
    with pytest.raises(ClassifierError, match="no regular file"):
        rows_of(pipe)
    with pytest.raises(ClassifierError, match="is not a fitted probe"):
        Probe.load(pipe)
    with pytest.raises(ClassifierError, match="cannot be read"):
        read_mapping(pipe, "a config")
    with pytest.raises(InputError, match="cannot be read"):
        read_calibration(pipe)
