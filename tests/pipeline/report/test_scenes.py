"""The report's section on group scenes: with a detector, without one, with hostile text, and absent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.pipeline.metrics.scenes import scenes_of_run
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.report import scenes, write_report
from allfour.pipeline.report.scenes import Person
from allfour.pipeline.report.tables import ImageRecord
from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from tests.pipeline.report.fixture_run import GENDER, INJECTIONS, Options, build_run
from tests.pipeline.report.test_report import Page


def add_scenes(run: RunFolder, *, detector: str | None = "eyes") -> dict[str, Any]:
    """Let a fixture run's first prompt ask for several people, and show two who differ in its first two images; the figures."""
    images = pq.read_table(run.images_path).to_pylist()
    first = images[0]["prompt_id"]
    for row in images:
        if row["prompt_id"] == first:
            row["extra"] = [*row["extra"], ("people", "several")]
    pq.write_table(pa.Table.from_pylist(images, schema=IMAGES_SCHEMA), run.images_path)
    if detector is not None:
        scores = pq.read_table(run.scores_path).to_pylist()
        people = []
        for row in scores:
            if row["prompt_id"] == first and row["index"] < 2 and row["attribute"] == "gender":
                row.update(decision="woman", box=[10, 20, 60, 90])
                people.append({**row, "person": 1, "decision": "man", "box": [100, 20, 150, 90]})
        pq.write_table(pa.Table.from_pylist([*scores, *people], schema=SCORES_SCHEMA), run.scores_path)
    classifier = {"encoder": {"people": {"detector": detector}}} if detector is not None else {"encoder": {}}
    run.update_header(classifier=classifier)
    counted = tally(run, attributes=["gender"], set_size=4)
    found = scenes_of_run(run, counted.prompts, headline="gender", labels=GENDER, confidence=0.95)
    assert found is not None
    document = found.document()
    metrics = json.loads(run.metrics_path.read_text())
    run.metrics_path.write_text(json.dumps({**metrics, "group_scenes": document}))
    return document


def scenes_page(folder: Path, *, detector: str | None = "eyes", hostile: bool = False) -> tuple[str, dict[str, Any]]:
    """The page and the figures of a fixture run with group scenes."""
    run = RunFolder(build_run(folder, Options(prompts=6, oddities=False, hostile=hostile)))
    found = add_scenes(run, detector=detector)
    return write_report(run.path).read_text(encoding="utf-8"), found


def test_people_are_framed_and_counted(tmp_path: Path) -> None:
    html, found = scenes_page(tmp_path)
    words = Page(html).text
    assert found["asked"]["counts"]["mixed"] == 2
    assert "People were found by eyes." in words
    assert "Several people in 2 of 4 images" in words
    assert "Images: 2 mixed." in words
    assert "People: 2 women and 2 men." in words
    # two pictures, a frame and its halo for each of two people
    section = html[html.index('id="scenes"') :]
    section = section[: section.index("</section>")]
    assert section.count('class="halo"') == 4
    assert section.count('class="frames"') == 2


def test_without_a_detector_nobody_was_counted(tmp_path: Path) -> None:
    html, found = scenes_page(tmp_path, detector=None)
    words = Page(html).text
    assert found["detector"] is None
    assert "1 prompt asks for several people. How many their images show is not known: no detector was configured" in words  # fmt: skip
    assert "classifier.people.detector: centerface" in words
    assert "Read as a whole:" in words


def test_a_frame_ends_where_the_picture_does() -> None:
    """Detectors frame who is cut off by the edge beyond it, and records may say anything."""
    record = ImageRecord(prompt_id="p", prompt="p", index=0, status="generated", width=100, height=80)
    people = [Person((-20, 10, 30, 90), "woman"), Person((90, -5, 140, 40), "man"), Person((200, 200, 240, 260), "man")]
    drawn = str(scenes._frames(record, people, {"woman": "a", "man": "b"}))
    places = [
        [int(value) for value in found]
        for found in re.findall(r'x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', drawn)
    ]
    assert places[::2] == [[0, 10, 30, 70], [90, 0, 10, 40], [99, 79, 1, 1]]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    html, _ = scenes_page(tmp_path, detector=INJECTIONS[1], hostile=True)
    found = Page(html)
    assert len(found.scripts) == 2
    section = html[html.index('id="scenes"') :]
    section = section[: section.index("</section>")]
    assert "&lt;img src=x" in section  # the detector
    assert "&lt;/script&gt;" in section  # the prompt
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]


def test_no_section_where_nobody_asks(tmp_path: Path) -> None:
    words = Page(write_report(build_run(tmp_path)).read_text(encoding="utf-8"))
    assert "Group scenes" not in words.text
    assert "#scenes" not in {attributes.get("href") for _, attributes in words.tags}
