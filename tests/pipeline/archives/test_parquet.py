"""Parquet with images inside."""

from __future__ import annotations

import base64
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.archives import INDEX_STRIDE, NO_PROMPT_ID, ArchiveError, ArchiveOptions, open_source
from allfour.pipeline.archives.parquet_file import ParquetFile
from tests.hostile_images import good_file
from tests.pipeline.archives.helpers import check_contract, items_of, write_tree
from tests.pipeline.archives.test_metadata import png as png_with

PNG = good_file(0, "png")


def write(path: Path, columns: dict[str, object], *, group: int = 4) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def struct_of(values: list[bytes | None]) -> pa.Array:
    return pa.array([{"bytes": value, "path": f"{i}.png"} for i, value in enumerate(values)])


def test_hugging_face_struct(tmp_path: Path) -> None:
    count = 10
    columns = {
        "image": struct_of([PNG] * (count - 1) + [None]),
        "prompt": [f"prompt {i % 3}" for i in range(count)],
        "seed": list(range(count)),
        "model": ["dall-e"] * count,
        "embedding": [[0.5]] * count,
    }
    source = open_source(write(tmp_path / "a.parquet", columns), options=ArchiveOptions(shard_size=8))
    assert [shard.images for shard in source.shards()] == [8, 2]
    items = check_contract(source)
    assert [item.image.index for item in items[:4]] == [0, 0, 0, 1]
    assert items[8].image.index == INDEX_STRIDE
    assert (items[3].image.seed, items[3].image.extra) == (3, {"model": "dall-e"})
    assert items[3].image.path == f"{tmp_path}/a.parquet::3"
    assert items[9].error == "the row holds a path and no bytes; embed the images before archiving"
    summary = source.summary()
    assert (summary.images, summary.prompts, summary.shards) == (10, 3, 2)
    assert "columns of bytes, lists or structs are not kept: embedding" in summary.notes


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_column_of_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {"jpg": pa.array([PNG, None, bytes(9_000)], kind), "TEXT": ["a nurse", "a nurse", "a cto"]}
    items = check_contract(
        open_source(write(tmp_path / "a.parquet", columns), options=ArchiveOptions(max_image_bytes=8_000))
    )
    assert [item.error for item in items] == [
        None,
        "the row holds no bytes",
        "9,000 bytes are over the limit of 8,000 bytes (max_image_bytes)",
    ]
    assert items[0].image.prompt == "a nurse"


PADDED = [good_file(number, "png").ljust(4_000, b"\0") for number in range(2)]
TEXTS = pa.array(["a nurse", "a cto"])
PATHS = pa.array(["0.png", "0_mask.png"])
HELD = {
    "fixed in size": pa.array(PADDED, pa.binary(4_000)),
    "views": pa.array(PADDED, pa.binary_view()),
    "a dictionary": pa.array(PADDED, pa.large_binary()).dictionary_encode(),
    "structs of views": pa.StructArray.from_arrays([pa.array(PADDED, pa.binary_view()), PATHS.cast(pa.string_view())], ["bytes", "path"]),
    "structs of fixed size": pa.StructArray.from_arrays([pa.array(PADDED, pa.binary(4_000)), PATHS.dictionary_encode()], ["bytes", "path"]),
    "lists of one length": pa.array([[data] for data in PADDED], pa.list_(pa.binary(), 1)),
    "views of lists": pa.array([[data] for data in PADDED], pa.list_view(pa.binary())),
    "views of large lists of views": pa.array([[data] for data in PADDED], pa.large_list_view(pa.binary_view())),
    "base64 in views": pa.array([base64.b64encode(data).decode() for data in PADDED], pa.string_view()),
    "base64 in a dictionary": pa.array([base64.b64encode(data).decode() for data in PADDED]).dictionary_encode(),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("held", HELD)
def test_layouts_of_a_column_of_images(tmp_path: Path, held: str, ending: str) -> None:
    """Beside a digest, which is bytes of one size too and no image, and a text of a kind that is kept."""
    digest = pa.array([bytes(64), bytes(64)], pa.binary(64))
    table = pa.table({"pixels" if "base64" not in held else "image": HELD[held], "prompt": TEXTS.cast(pa.string_view()), "sha": digest, "model": TEXTS.dictionary_encode()})  # fmt: skip
    if ending == "parquet":
        pq.write_table(table, tmp_path / "a.parquet")
    else:
        with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
            writer.write_table(table)
    source = open_source(tmp_path / f"a.{ending}")
    items = check_contract(source)
    assert [item.data for item in items] == PADDED
    assert [(item.image.prompt, item.image.extra) for item in items] == [
        ("a nurse", {"model": "a nurse"}),
        ("a cto", {"model": "a cto"}),
    ]
    notes = "\n".join(source.summary().notes)
    assert "columns of bytes, lists or structs are not kept: sha" in notes
    assert ("1 of 2 rows name a picture that is" in notes) == held.startswith("structs")


@pytest.mark.parametrize("kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("columns", [("file_name", "prompt"), ("prompt_id", "prompt")])
def test_layouts_of_texts_in_tables(tmp_path: Path, kind: pa.DataType, columns: tuple[str, str]) -> None:
    """A manifest, a table beside images by file, and one by number: categories of pandas are a dictionary."""
    for at in range(2):
        write_tree(tmp_path / "images", {f"images/{at}.png": PNG})
    first = ["images/0.png", "images/1.png"] if columns[0] == "file_name" else ["0", "1"]
    arrays = [pa.array(values).cast(kind) for values in (first, TEXTS.to_pylist())]
    write(tmp_path / "images" / "prompts.parquet", dict(zip(columns, arrays, strict=True)))
    where = [tmp_path / "images"]
    if columns[0] == "file_name":
        where.append(where[0] / "prompts.parquet")
    for each in where:
        assert [item.image.prompt for item in check_contract(open_source(each))] == TEXTS.to_pylist()


@pytest.mark.parametrize("missing", [None, "\u200b", "\u3164 \u2060"])
def test_missing_prompts(tmp_path: Path, missing: str | None) -> None:
    columns = {"image": struct_of([PNG, PNG]), "prompt": ["a nurse", missing]}
    items = check_contract(open_source(write(tmp_path / "a.parquet", columns)))
    assert (items[1].image.prompt_id, items[1].error) == (NO_PROMPT_ID, "no prompt: the column is empty in this row")
    notes = open_source(tmp_path / "a.parquet").summary().notes
    assert "1 of 2 rows have an empty prompt: they are not scored" in notes


def test_prompts_that_are_too_long(tmp_path: Path) -> None:
    columns = {"image": struct_of([PNG, PNG, PNG]), "prompt": ["x" * 10_000, "x" * 10_001, "\0" * 9_999]}
    source = open_source(write(tmp_path / "a.parquet", columns))
    items = check_contract(source)
    assert [item.image.extra.get("prompt_characters") for item in items] == [None, "10001", "9999"]
    assert [len(item.image.prompt) for item in items] == [10_000] * 3
    assert any(note.startswith("2 prompts are longer than 10,000 characters") for note in source.summary().notes)


def test_a_column_of_lists_is_no_column_of_prompts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": struct_of([PNG]), "caption": pa.array([["a nurse", "a woman"]])})
    with pytest.raises(ArchiveError, match=r"column caption holds list<.*> and not one text a row"):
        items_of(open_source(path))


def test_prompts_from_metadata(tmp_path: Path) -> None:
    columns = {"image": struct_of([png_with(parameters="a nurse"), PNG])}
    path = write(tmp_path / "a.parquet", columns)
    with pytest.raises(ArchiveError, match="no column of prompts"):
        items_of(open_source(path))
    items = check_contract(open_source(path, options=ArchiveOptions(prompt_from="metadata")))
    assert [item.image.prompt for item in items] == ["a nurse", ""]
    notes = open_source(path, options=ArchiveOptions(prompt_from="metadata")).summary().notes
    assert any(note.startswith("1 of the first 2 images have no prompt in their metadata") for note in notes)


def test_columns_are_chosen(tmp_path: Path) -> None:
    columns = {"first": struct_of([PNG]), "second": struct_of([PNG + b"2"]), "label": ["a nurse"]}
    path = write(tmp_path / "a.parquet", columns)
    with pytest.raises(ArchiveError, match="several columns hold images"):
        items_of(open_source(path))
    options = ArchiveOptions(image_column="second", prompt_column="label")
    assert check_contract(open_source(path, options=options))[0].data == PNG + b"2"
    with pytest.raises(ArchiveError, match="Did you mean 'label'"):
        items_of(open_source(path, options=ArchiveOptions(image_column="second", prompt_column="lable")))


def test_several_files_of_which_one_is_broken(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.parquet", {"image": struct_of([PNG]), "prompt": ["a nurse"]})
    (tmp_path / "1.parquet").write_bytes(b"PAR1 and then nothing")
    items = check_contract(open_source(tmp_path))
    assert [item.image.index for item in items] == [0, INDEX_STRIDE, 2 * INDEX_STRIDE]
    assert "is no parquet, or is damaged" in (items[1].error or "")
    with pytest.raises(ArchiveError, match="is no parquet"):
        items_of(open_source(tmp_path / "1.parquet"))


def test_damage_inside_is_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": struct_of([PNG] * 4), "prompt": ["a nurse"] * 4}, group=2)
    data = bytearray(path.read_bytes())
    data[4:80] = b"\xff" * 76
    path.write_bytes(data)
    items = items_of(open_source(path, options=ArchiveOptions(shard_size=2)))
    assert items[0].error and "the parquet is damaged" in items[0].error
    assert [item.data for item in items[1:]] == [PNG, PNG]


def test_no_rows(tmp_path: Path) -> None:
    empty = {"image": struct_of([]).cast(struct_of([PNG]).type), "prompt": pa.array([], pa.string())}
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", empty)
    for source, message in ((tmp_path / "a.parquet", "it has no rows"), (tmp_path, "its 2 files have no rows")):
        with pytest.raises(ArchiveError, match=f"no images in .*: {message}"):
            items_of(open_source(source))
        with pytest.raises(ArchiveError, match=f"no images in .*: {message}"):
            open_source(source).summary()
    write(tmp_path / "b.parquet", {"image": struct_of([PNG]), "prompt": ["a nurse"]})
    assert len(check_contract(open_source(tmp_path))) == 1


def not_utf8() -> pa.Array:
    raw = pa.array([b"a nurse", b"caf\xe9 owner", None], pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


NANOSECONDS = 1_577_836_800_000_000_001


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (not_utf8(), ["a nurse", "caf\\xe9 owner", None]),
        (not_utf8().cast(pa.binary()).dictionary_encode(), None),
        (pa.array([0, NANOSECONDS, None], pa.timestamp("ns")), ['"1970-01-01 00:00:00"', '"2020-01-01 00:00:00.000000001"', None]),
        (pa.array([0, 10**8, None], pa.date32()), ['"1970-01-01"', None, None]),
        (pa.array([0, 1, None], pa.timestamp("us", tz="Nowhere/Nobody")), None),
        (pa.array([1000, 1, None], pa.duration("ns")), None),
        (pa.array([1000, 1, None], pa.time64("ns")), None),
    ],
)  # fmt: skip
def test_a_value_without_a_form_in_python_ends_no_rows(
    tmp_path: Path, column: pa.Array, told: list[str | None] | None
) -> None:
    path = write(
        tmp_path / "a.parquet", {"image": pa.array([PNG] * 3), "prompt": ["a", "b", "c"], "x": column}, group=3
    )
    source = open_source(path)
    items = items_of(source)
    assert [(item.image.prompt, item.error) for item in items] == [("a", None), ("b", None), ("c", None)]
    for item, text in zip(items, told or (), strict=told is not None):
        assert text is None or item.image.extra["x"] == text
    assert source.summary().images == 3


def test_a_prompt_and_a_name_that_are_no_utf8(tmp_path: Path) -> None:
    names = not_utf8()
    pictures = pa.StructArray.from_arrays([pa.array([PNG] * 3), names], ["bytes", "path"])
    path = write(tmp_path / "a.parquet", {"image": pictures, "prompt": names})
    source = open_source(path)
    assert [(item.image.prompt, item.data) for item in items_of(source)[:2]] == [
        ("a nurse", PNG),
        ("caf\\xe9 owner", PNG),
    ]
    assert source.summary().prompts == 2


def test_a_manifest_of_values_without_a_form_in_python(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(PNG)
    names = not_utf8()
    write(tmp_path / "a.parquet", {"path": ["0.png"] * 3, "prompt": ["a", "b", "c"], "x": names})
    assert [item.error for item in items_of(open_source(tmp_path / "a.parquet"))] == [None] * 3


def test_rows_that_do_not_fit_into_memory_are_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write(tmp_path / "a.parquet", {"image": pa.array([PNG] * 3), "prompt": ["a"] * 3}))

    def fail(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(ParquetFile, "batches", fail)
    with pytest.raises(MemoryError):
        items_of(source)


@pytest.mark.parametrize("name", ["image", "prompt"])
def test_two_columns_of_one_name(tmp_path: Path, name: str) -> None:
    columns = {"image": pa.array([PNG] * 3), "prompt": pa.array(["a", "b", "c"])}
    table = pa.Table.from_arrays([*columns.values(), columns[name]], names=[*columns, name])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ArchiveError, match=f"several columns are called {name}"):
        items_of(open_source(tmp_path / "a.parquet"))
