"""JSON that holds images as base64, with the prompts in it or in a file beside it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from allfour.pipeline.archives import ArchiveError, ArchiveItem, ArchiveOptions, open_source
from allfour.pipeline.archives.base import NoImagesError
from allfour.pipeline.archives.fetch import fetch
from allfour.pipeline.archives.json_pictures import holds_pictures
from tests.hostile_images import encoded, picture
from tests.pipeline.archives.helpers import check_contract, write_tree

PICTURES = [encoded(picture(number), ending) for number, ending in enumerate(("png", "jpeg", "webp", "png") * 2)]
TEXTS = [base64.b64encode(data).decode() for data in PICTURES]
HEIM = "display_predictions.json"
LONELY = {"name": "gender", "source_class": "male"}


def scored(items: list[ArchiveItem]) -> Counter[str]:
    return Counter(item.image.prompt for item in items if item.data is not None)


def heim(*, asked: bool = True, instances: bool = True) -> dict[str, bytes]:
    """The files of a run as HEIM writes them: two prompts, one of them also as it reads after a perturbation, and a request that failed."""
    rows: list[dict[str, Any]] = [
        {"instance_id": "id1", "train_trial_index": 0, "predicted_text": "", "base64_images": TEXTS[:2], "stats": {"x": 0.5}},
        {"instance_id": "id1", "train_trial_index": 1, "predicted_text": "", "base64_images": TEXTS[2:4]},
        {"instance_id": "id1", "train_trial_index": 0, "predicted_text": "", "base64_images": TEXTS[4:6], "perturbation": LONELY},
        {"instance_id": "id2", "train_trial_index": 0, "predicted_text": "", "base64_images": [f"data:image/png;base64,{TEXTS[6]}", TEXTS[7]]},
        {"instance_id": "id2", "train_trial_index": 1, "predicted_text": "", "base64_images": []},
    ]  # fmt: skip
    words = {("id1", False): "a man at work", ("id1", True): "a woman at work", ("id2", False): "a nurse"}

    def said(row: dict[str, Any]) -> str:
        return words[row["instance_id"], "perturbation" in row]

    requests = [
        {key: row[key] for key in ("instance_id", "train_trial_index", "perturbation") if key in row}
        | {"request": {"model": "some/model", "prompt": said(row), "num_completions": 2}}
        for row in rows
    ]
    known = [
        {"id": row["instance_id"], "input": {"text": said(row)}, "references": []}
        | ({"perturbation": LONELY} if "perturbation" in row else {})
        for row in rows
    ]
    files = {HEIM: rows, "scenario.json": {"name": "a", "description": "b"}, "stats.json": [{"mean": 1.0}]}
    files |= {"display_requests.json": requests} if asked else {}
    files |= {"instances.json": known} if instances else {}
    return {name: json.dumps(value, indent=2).encode() for name, value in files.items()}


@pytest.mark.parametrize("asked", [True, False], ids=["requests", "instances"])
@pytest.mark.parametrize("named", ["", HEIM], ids=["folder", "file"])
def test_heim_s_predictions_are_read_with_the_prompts_beside_them(tmp_path: Path, named: str, asked: bool) -> None:
    write_tree(tmp_path, heim(asked=asked))
    items = check_contract(open_source(tmp_path / named))
    assert [item.data for item in items] == [*PICTURES, None]
    assert scored(items) == {"a man at work": 4, "a woman at work": 2, "a nurse": 2}
    assert (items[-1].image.prompt, items[-1].error) == ("a nurse", "the row holds no bytes")
    assert items[0].image.extra["stats"] == '{"x": 0.5}'
    assert "base64_images" not in items[0].image.extra
    assert dict(fetch([item.image.path for item in items])) == {i.image.path: i.data for i in items if i.data}


def test_without_any_prompts_it_says_so(tmp_path: Path) -> None:
    write_tree(tmp_path, heim(asked=False, instances=False))
    with pytest.raises(ArchiveError, match=r"display_predictions\.json: no column of prompts"):
        open_source(tmp_path).summary()


@pytest.mark.parametrize("ending", ["json", "jsonl", "ndjson"])
@pytest.mark.parametrize("address", ["", "data:image/png;base64,"])
def test_rows_of_any_other_program(tmp_path: Path, ending: str, address: str) -> None:
    rows = [{"prompt": "a nurse", "image": address + text, "seed": at, "size": "64"} for at, text in enumerate(TEXTS)]
    rows += [{"prompt": "a nurse", "image": "no picture"}, {"image": address + TEXTS[0]}]
    text = json.dumps({"model": "m", "rows": rows}) if ending == "json" else "\n".join(map(json.dumps, rows))
    (tmp_path / f"a.{ending}").write_text(text)
    items = check_contract(source := open_source(tmp_path / f"a.{ending}"))
    assert [item.data for item in items] == [*PICTURES, None, None]
    assert scored(items) == {"a nurse": 8}
    assert [item.image.seed for item in items][:8] == list(range(8))
    assert items[-1].error == "no prompt: the column is empty in this row"
    assert "images from column image" in source.summary().notes
    assert dict(fetch([items[3].image.path])) == {items[3].image.path: PICTURES[3]}


def test_a_manifest_stays_one_whatever_it_holds_beside(tmp_path: Path) -> None:
    rows = [{"file_name": f"{at}.png", "prompt": "a nurse", "thumbnail": TEXTS[at]} for at in range(4)]
    write_tree(
        tmp_path, {f"{at}.png": PICTURES[0] for at in range(4)} | {"a.jsonl": "\n".join(map(json.dumps, rows)).encode()}
    )
    source = open_source(tmp_path / "a.jsonl")
    assert source.identity()["layout"] == "manifest"
    assert scored(check_contract(source)) == {"a nurse": 4}


def test_under_another_layout_nothing_is_looked_for(tmp_path: Path) -> None:
    write_tree(tmp_path, heim())
    with pytest.raises(NoImagesError, match="no images in"):
        open_source(tmp_path, options=ArchiveOptions(layout="folder")).summary()


def test_a_folder_that_may_be_anything_is_not_read_by_one_of_its_files(tmp_path: Path) -> None:
    write_tree(tmp_path, heim() | {"a nurse/0.png": PICTURES[0]})
    assert scored(check_contract(open_source(tmp_path))) == {"a nurse": 1}


@pytest.mark.parametrize("damage", [b"[", b"[1, 2]", b"{}"])
def test_what_is_no_such_list_is_one_error(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(damage)
    assert not holds_pictures(str(path))
    with pytest.raises(ArchiveError, match=r"a\.json"):
        open_source(path, options=ArchiveOptions(layout="parquet")).summary()
    path.write_bytes(b'[{"image": "%s"}' % TEXTS[0].encode())
    with pytest.raises(ArchiveError, match="is no JSON"):
        open_source(path).summary()
