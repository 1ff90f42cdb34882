"""What a summary shows of an archive before it is read, clause by clause, in every layout that a source may have."""

from __future__ import annotations

import io
import json
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from allfour.pipeline.archives import ArchiveOptions, open_source
from allfour.pipeline.archives.base import ArchiveSummary
from tests.hostile_images import encoded, picture
from tests.pipeline.archives.helpers import write_tar, write_tree

Rows = Sequence[tuple[str, bytes]]
"""A prompt and an image each."""

PICTURES = [encoded(picture(number), "png") for number in range(12)]


def _folder(root: Path, rows: Rows) -> Path:
    return write_tree(root / "made", {f"{prompt}/{n}.png": data for n, (prompt, data) in enumerate(rows)})


def _table(root: Path, rows: Rows) -> Path:
    lines = [json.dumps({"file_name": f"{n}.png", "text": prompt}) for n, (prompt, _) in enumerate(rows)]
    files = {f"{n}.png": data for n, (_, data) in enumerate(rows)}
    return write_tree(root / "made", {**files, "metadata.jsonl": "\n".join(lines).encode()})


def _zip(root: Path, rows: Rows) -> Path:
    with zipfile.ZipFile(root / "made.zip", "w") as file:
        for n, (prompt, data) in enumerate(rows):
            file.writestr(f"{prompt}/{n}.png", data)
    return root / "made.zip"


def _tar(root: Path, rows: Rows) -> Path:
    return write_tar(root / "made.tar", [(f"{prompt}/{n}.png", data) for n, (prompt, data) in enumerate(rows)])


def _captioned_tar(root: Path, rows: Rows) -> Path:
    members = [
        (f"{n:04d}.{kind}", part)
        for n, (prompt, data) in enumerate(rows)
        for kind, part in (("png", data), ("txt", prompt.encode()))
    ]
    return write_tar(root / "made.tar", members)


def _packed_tar(root: Path, rows: Rows) -> Path:
    members = [(f"{prompt}/{n}.png", data) for n, (prompt, data) in enumerate(rows)]
    return write_tar(root / "made.tar.gz", members, mode="w:gz")


def _manifest(root: Path, rows: Rows) -> Path:
    lines = [json.dumps({"path": f"{n}.png", "prompt": prompt}) for n, (prompt, _) in enumerate(rows)]
    write_tree(root, {f"{n}.png": data for n, (_, data) in enumerate(rows)})
    return write_tree(root, {"made.jsonl": "\n".join(lines).encode()}) / "made.jsonl"


def _columns(rows: Rows) -> pa.Table:
    images = [{"bytes": data, "path": f"{n}.png"} for n, (_, data) in enumerate(rows)]
    return pa.table({"image": images, "prompt": [prompt for prompt, _ in rows]})


def _parquet(root: Path, rows: Rows) -> Path:
    pq.write_table(_columns(rows), root / "made.parquet")
    return root / "made.parquet"


def _arrow(root: Path, rows: Rows) -> Path:
    table = _columns(rows)
    (root / "made").mkdir()
    with pa.ipc.new_stream(root / "made" / "data-00000-of-00001.arrow", table.schema) as file:
        file.write_table(table)
    return root / "made"


LAYOUTS: dict[str, Callable[[Path, Rows], Path]] = {
    "folder": _folder, "table": _table, "zip": _zip, "tar": _tar, "captioned tar": _captioned_tar, "packed tar": _packed_tar,
    "manifest": _manifest, "parquet": _parquet, "arrow": _arrow,
}  # fmt: skip


def summed_up(root: Path, rows: Rows, make: Callable[[Path, Rows], Path]) -> ArchiveSummary:
    return open_source(make(root, rows)).summary()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_there(layout: str, tmp_path: Path) -> None:
    names = ["a nurse", "a pilot", "a chef", "a judge", "a clerk", "a guard"]
    rows = [(names[n // 2], PICTURES[n]) for n in range(11)] + [("a guard", PICTURES[0])]
    summary = summed_up(tmp_path, rows, LAYOUTS[layout])
    assert summary.probed["images"] == 12
    assert (summary.probed["with_prompt"], summary.probed["distinct"]) == (12, 6)
    shown = [example.split(" <- ") for example in summary.examples]
    assert len({prompt for prompt, _ in shown} & set(names)) == 5
    assert len({where for _, where in shown}) == 5
    assert summary.probed["copies"] == 1
    assert any("byte for byte copies" in note for note in summary.notes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prompts_that_differ_in_spelling_alone_are_one_and_said(layout: str, tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "caf\u00e9 worker") for form in ("NFC", "NFD")]
    spelled = [*forms, "CAF\u00c9 worker", "a nurse"]
    summary = summed_up(tmp_path, [(text, PICTURES[n]) for n, text in enumerate(spelled)], LAYOUTS[layout])
    assert summary.probed["distinct"] == 2
    (note,) = [note for note in summary.notes if "spelled in several ways" in note]
    assert note.startswith("1 prompt is ")
    known = ArchiveOptions(prompts={"cafe": ("caf\u00e9 worker", None)}).spelling_book()
    assert known.from_name("cafe").id == known.from_text("caf\u00e9 worker").id == "cafe"
    assert not known.notes()  # an id and its text are no two spellings


@pytest.mark.parametrize("layout", LAYOUTS)
def test_likely_grids_are_counted(layout: str, tmp_path: Path) -> None:
    rows = []
    for place, name in enumerate(("a nurse", "a pilot")):
        whole = Image.new("RGB", (192, 192))
        for n in range(4):
            tile = Image.open(io.BytesIO(PICTURES[4 * place + n])).convert("RGB").resize((92, 92))
            whole.paste(tile, (n % 2 * 100, n // 2 * 100))
        rows.append((name, encoded(whole, "png")))
    summary = summed_up(tmp_path, rows, LAYOUTS[layout])
    assert summary.probed["likely_grids"] == 2
    assert any("archive.tiles: auto cuts them" in note for note in summary.notes)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    made = _manifest(tmp_path, [(f"a nurse {n}", PICTURES[n]) for n in range(4)])
    (tmp_path / "1.png").unlink()
    summary = open_source(made).summary()
    assert summary.probed["missing"] == 1
    assert any(note.startswith("1 of 4 rows name files that are not there") for note in summary.notes)
