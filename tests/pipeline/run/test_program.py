"""Which program writes a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from allfour.pipeline.run import program


def test_git_is_asked_without_taking_its_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    git = tmp_path / "git"
    git.write_text(f'#!/bin/sh\necho "locks $GIT_OPTIONAL_LOCKS" >> {seen}\n')
    git.chmod(0o755)
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(program, "_CHECKOUT", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert program.git_state() is not None
    assert set(seen.read_text().splitlines()) == {"locks 0"}
