"""What a summary shows of an archive before it is read, clause by clause, in every layout that a source may have."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from allfour.pipeline.archives import ArchiveError, ArchiveOptions, open_source
from allfour.pipeline.archives.base import ArchiveSummary, HasDoubts
from allfour.pipeline.commands.output import print_archive
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


def _captions(root: Path, rows: Rows) -> Path:
    files = {f"{n}.png": data for n, (_, data) in enumerate(rows)}
    return write_tree(root / "made", files | {f"{n}.txt": prompt.encode() for n, (prompt, _) in enumerate(rows)})


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
    "folder": _folder, "table": _table, "captions": _captions, "zip": _zip, "tar": _tar, "captioned tar": _captioned_tar, "packed tar": _packed_tar,
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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sets_that_copies_fill(layout: str, tmp_path: Path) -> None:
    """Also where they lie behind the first images, which alone are looked at of most archives."""
    rows = [("a nurse", PICTURES[n % 4]) for n in range(2)] + [(f"a pilot {n}", PICTURES[n % 12]) for n in range(24)]
    rows += [("a chef", PICTURES[5])] * 4
    summary = summed_up(tmp_path, rows, LAYOUTS[layout])
    assert summary.images_per_prompt == {1: 24, 2: 1, 4: 1}
    assert summary.without_copies == {1: 25, 2: 1}
    assert any(note.startswith("3 images are byte for byte copies") and "in 1 prompt" in note for note in summary.notes)


def _without(*gone: str) -> Callable[[Path, Rows], Path]:
    """A folder whose files of some names are lost, packed up or not."""

    def make(root: Path, rows: Rows) -> Path:
        made = _FOLDERS[gone[0]](root, rows)
        (made / "1.png").unlink()
        (made / "3.png").unlink()
        if gone[1:] == ("zip",):
            with zipfile.ZipFile(root / "made.zip", "w") as file:
                for path in sorted(made.iterdir()):
                    file.write(path, path.name)
            return root / "made.zip"
        if gone[1:] in (("tar",), ("tar.gz",)):
            members = [(path.name, path.read_bytes()) for path in sorted(made.iterdir())]
            return write_tar(root / f"made.{gone[1]}", members, mode="w:gz" if gone[1] == "tar.gz" else "w")
        return made

    return make


def _list(ending: str) -> Callable[[Path, Rows], Path]:
    def make(root: Path, rows: Rows) -> Path:
        table = pa.table({"path": [f"{n}.png" for n in range(len(rows))], "prompt": [prompt for prompt, _ in rows]})
        made = write_tree(root / "made", {f"{n}.png": data for n, (_, data) in enumerate(rows) if n not in (1, 3)})
        lines = ["path,prompt", *(f"{row['path']},{row['prompt']}" for row in table.to_pylist())]
        if ending == "parquet":
            pq.write_table(table, made / "list.parquet")
        else:
            (made / f"list.{ending}").write_text("\n".join(lines) if ending == "csv" else json.dumps(table.to_pylist()))
        return made / f"list.{ending}"

    return make


def _at_an_address(root: Path, rows: Rows) -> Path:
    made = _list("csv")(root, rows)
    store = fsspec.filesystem("memory")
    for path in made.parent.iterdir():
        store.pipe(f"/{root.name}/{path.name}", path.read_bytes())
    return cast(Path, f"memory://{root.name}/list.csv")


def _no_bytes(form: str) -> Callable[[Path, Rows], Path]:
    def make(root: Path, rows: Rows) -> Path:
        kept = [(prompt, None if n in (1, 3) else data) for n, (prompt, data) in enumerate(rows)]
        return (_parquet if form == "parquet" else _arrow)(root, cast(Rows, kept))

    return make


_FOLDERS = {"table": _table, "captions": _captions}
LOST: dict[str, Callable[[Path, Rows], Path]] = {
    "table": _without("table"), "captions": _without("captions"), "zip of a table": _without("table", "zip"),
    "zip of captions": _without("captions", "zip"), "tar of a table": _without("table", "tar"),
    "tar of captions": _without("captions", "tar"), "packed tar": _without("captions", "tar.gz"), "csv": _list("csv"), "json": _list("json"),
    "parquet of paths": _list("parquet"), "at an address": _at_an_address, "parquet": _no_bytes("parquet"), "arrow": _no_bytes("arrow"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LOST)
def test_files_that_are_not_there(layout: str, tmp_path: Path) -> None:
    """Whatever names them: a table, captions, a manifest, rows that should hold them."""
    source = open_source(LOST[layout](tmp_path, [(f"a nurse {n % 2}", PICTURES[n]) for n in range(8)]))
    summary = source.summary()
    assert summary.probed["missing"] == 2
    words = ("not there", "missing", "hold no image", "no image beside them")
    assert any(note.startswith("2 ") and any(word in note for word in words) for note in summary.notes), summary.notes


def test_addresses_in_a_list(tmp_path: Path) -> None:
    """Those alone are no archive; some among files are no missing ones."""
    write_tree(tmp_path, {"0.png": PICTURES[0]})
    for where, mend in (("https://example.org", "img2dataset"), ("s3://bucket/made", "s3://bucket/made/...")):
        lines = ["path,prompt", *(f"{where}/{n}.png,a nurse" for n in range(3))]
        write_tree(tmp_path, {"list.csv": "\n".join(lines).encode()})
        with pytest.raises(ArchiveError, match=re.escape(mend)):
            open_source(tmp_path / "list.csv").summary()
    write_tree(tmp_path, {"list.csv": "\n".join([*lines, "0.png,a nurse"]).encode()})
    summary = open_source(tmp_path / "list.csv").summary()
    assert summary.probed["missing"] == 0
    assert any(note.startswith("3 of 4 rows name addresses") for note in summary.notes)


@pytest.mark.parametrize("layout", ["csv", "parquet"])
def test_rows_that_name_no_samples(layout: str, tmp_path: Path) -> None:
    names = ["0.png", "0_mask.png", "1.png", "grid-0001.png"]
    if layout == "csv":
        write_tree(tmp_path, {name: PICTURES[n] for n, name in enumerate(names)})
        lines = "\n".join(["path,prompt", *(f"{name},a nurse" for name in names)])
        write_tree(tmp_path, {"list.csv": lines.encode()})
    else:
        images = [{"bytes": PICTURES[n], "path": f"made/{name}"} for n, name in enumerate(names)]
        pq.write_table(pa.table({"image": images, "prompt": ["a nurse"] * 4}), tmp_path / "list.parquet")
    notes = open_source(tmp_path / f"list.{layout}").summary().notes
    assert [note.partition(" of 4 rows")[0] for note in notes if "not a sample" in note] == ["1", "1"]


def test_what_img2dataset_could_not_download(tmp_path: Path) -> None:
    made = write_tar(tmp_path / "00000.tar", [("0.png", PICTURES[0]), ("0.txt", b"a nurse")])
    account = json.dumps({"count": 5, "successes": 1, "failed_to_download": 3, "failed_to_resize": 1}).encode()
    write_tree(tmp_path, {"00000_stats.json": account})
    source = open_source(made)
    assert isinstance(source, HasDoubts)
    for notes in (source.summary().notes, source.doubts()):
        assert any(note.startswith("4 of 5 images could not be downloaded") for note in notes)


@pytest.mark.parametrize("options", [{"prompt_from": "name"}, {"prompt_from": "path", "path_pattern": "{prompt}"}])
def test_spellings_in_names(options: dict[str, Any], tmp_path: Path) -> None:
    made = write_tree(tmp_path, {"A nurse.png": PICTURES[0], "a  nurse.png": PICTURES[1], "a pilot.png": PICTURES[2]})
    summary = open_source(made, options=ArchiveOptions(**options)).summary()
    assert summary.images_per_prompt == {1: 1, 2: 1}
    assert any(note.startswith("1 prompt is spelled in several ways") for note in summary.notes)


@pytest.mark.parametrize("layout", ["folder", "tar"])
def test_spellings_in_the_images(layout: str, tmp_path: Path) -> None:
    members = []
    for n, prompt in enumerate(("a nurse", "A nurse", "a pilot")):
        info = PngInfo()
        info.add_text("parameters", f"{prompt}\nSteps: 20, Sampler: Euler, Seed: {n}")
        buffer = io.BytesIO()
        picture(n).save(buffer, "PNG", pnginfo=info)
        members.append((f"{n}.png", buffer.getvalue()))
    made = write_tar(tmp_path / "x.tar", members) if layout == "tar" else write_tree(tmp_path / "images", dict(members))
    summary = open_source(made, options=ArchiveOptions(prompt_from="metadata")).summary()
    assert summary.probed["distinct"] == 2
    assert any(note.startswith("1 prompt is spelled in several ways") for note in summary.notes)


def test_sets_are_printed_with_what_fills_them(capsys: pytest.CaptureFixture[str]) -> None:
    found = ArchiveSummary("folder", 12, 3, 1, images_per_prompt={4: 3}, without_copies={4: 1, 1: 1, 3: 1})
    print_archive(found, set_size=4, as_json=False)
    assert "3 prompts have a whole set of 4 images, 2 of them only by copies" in capsys.readouterr().out
