"""Images with several people: a row per person, whole images as before, and the same whatever way the shard is worked through."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from allfour.errors import RunFolderError, UsageError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.detectors.base import Detection, PeopleFinder
from allfour.pipeline.archives.base import ArchivedImage, ArchiveItem
from allfour.pipeline.archives.marked import MarkedSource
from allfour.pipeline.archives.opening import open_source
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.job import RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.relabel import relabel
from allfour.pipeline.config import RunConfig, ScoringConfig, load_prompts
from allfour.pipeline.generation.generate import generate_images
from allfour.pipeline.generation.plan import make_plan
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.scoring.people import belong
from allfour.pipeline.scoring.score_tables import CODED_SCHEMA
from allfour.pipeline.scoring.scorer import encoding_fingerprint, fits, score_shard, scoring_fingerprint, stored_tables
from tests.conftest import shared_data
from tests.light_backends import LightGenerator

QUIET = Reporter(quiet=True)
CONFIG = ScoringConfig(batch_size=3, workers=1)


class Squares:
    """Finds squares of pure red, each of its own blue: a detector that is right by construction."""

    def identity(self) -> dict[str, Any]:
        return {"detector": "squares"}

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        pixels = np.asarray(image).astype(int)
        found = []
        for blue in np.unique(pixels[(pixels[..., 0] == 255) & (pixels[..., 1] == 0)][:, 2]):
            rows, columns = np.nonzero((pixels == (255, 0, blue)).all(axis=-1))
            box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
            found.append(Detection(box, float(blue)))
        return found


class Counting(ClipClassifier):
    encoded = 0

    def encode(self, batch: Any) -> Any:
        self.encoded += len(batch)
        return super().encode(batch)


class OnDevice(Counting):
    """Fed by one thread in batches of one shape, as an encoder on a GPU is."""

    @property
    def encodes_in_parallel(self) -> bool:
        return False


def attributes(*, threshold: float = 0.0, margin: float = 0.0) -> AttributeSet:
    return AttributeSet.model_validate(
        {
            "presence": {"labels": {"person": ["a person"], "no_person": ["a chair"]}, "threshold": threshold},
            "attributes": {"gender": {"margin": margin, "labels": {"woman": ["a woman"], "man": ["a man"]}}},
        }
    )


def build(folder: Path, kind: type[Counting] = Counting, *, find: bool = True, **asked: float) -> Counting:
    clip = kind(attributes=attributes(**asked), model=None, pretrained=str(folder))
    clip.people = PeopleFinder(Squares(), enlarge=2.0) if find else None
    _ = clip.embedding_dim  # its probe is not counted
    clip.encoded = 0
    return clip


BOXES = ((20, 30, 40, 50), (80, 10, 110, 40), (150, 60, 170, 80))


def scene(seed: int, people: int) -> Image.Image:
    """A picture with so many squares at `BOXES`."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 200, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((200, 100), Image.Resampling.BICUBIC)
    for number, box in enumerate(BOXES[:people]):
        image.paste((255, 0, 10 * number + 5), box)
    return image


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def items(*images: Image.Image | bytes) -> list[ArchiveItem]:
    return [
        ArchiveItem(
            ArchivedImage(prompt_id="p", prompt="p", index=index, path=f"{index}.png"),
            image if isinstance(image, bytes) else png(image),
        )
        for index, image in enumerate(images)
    ]


SHARD = items(scene(0, 0), scene(1, 1), scene(2, 3), b"no image", scene(3, 2), scene(2, 3), scene(4, 0))
"""Nobody, one, three, unreadable, two, three again (the same bytes), nobody."""


def gender_rows(scores: pa.Table) -> list[dict[str, Any]]:
    return [row for row in scores.to_pylist() if row["attribute"] == "gender"]


def test_people_have_rows_with_boxes_and_the_readings_of_their_crops(tiny_clip: Path) -> None:
    clip = build(tiny_clip)
    tables = score_shard(SHARD, classifier=clip, config=CONFIG)
    assert tables.scores.schema == CODED_SCHEMA
    assert tables.images["status"].to_pylist() == ["generated"] * 3 + ["unreadable"] + ["generated"] * 3
    rows = gender_rows(tables.scores)
    assert [(row["index"], row["person"]) for row in rows] == [
        (0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (3, 0), (4, 0), (4, 1), (5, 0), (5, 1), (5, 2), (6, 0)
    ]  # fmt: skip
    boxes = [None if row["box"] is None else tuple(row["box"]) for row in rows]
    assert boxes == [None, BOXES[0], *BOXES, None, *BOXES[:2], *BOXES, None]
    # every image has its questions together, person after person
    asked = [row["attribute"] for row in tables.scores.to_pylist() if row["index"] == 2]
    assert asked == ["presence", "gender"] * 3
    crops = {
        (index, number): scene(seed, people).crop((x - 10, y - 10, right + 10, bottom + 10))
        if number != 1 else scene(seed, people).crop((65, 0, 125, 55))  # clipped at the top
        for index, seed, people in ((2, 2, 3), (4, 3, 2))
        for number, (x, y, right, bottom) in enumerate(BOXES[:people])
    }  # fmt: skip
    shown = {(0, 0): scene(0, 0), (1, 0): scene(1, 1), (6, 0): scene(4, 0), **crops}
    inputs = np.stack([clip.prepare(image) for image in shown.values()])
    expected = dict(zip(shown, clip.probabilities(clip.encode(inputs))["gender"], strict=True))
    for row in rows:
        key = (2 if row["index"] == 5 else row["index"], row["person"])
        if row["index"] != 3:
            assert dict(row["probabilities"])["woman"] == pytest.approx(float(expected[key][0]), abs=1e-5)


def test_a_twin_is_neither_searched_nor_encoded_again(tiny_clip: Path) -> None:
    clip = build(tiny_clip)
    tables = score_shard(SHARD, classifier=clip, config=CONFIG)
    assert clip.encoded == 5 + 1 + 3 + 2  # five images, and who is in them
    assert tables.people is not None
    assert tables.people["image"].to_pylist() == [1, 2, 2, 2, 3, 3, 4, 4, 4]  # among the readable ones
    rows = gender_rows(tables.scores)
    assert [r["probabilities"] for r in rows if r["index"] == 2] == [
        r["probabilities"] for r in rows if r["index"] == 5
    ]


class Uneven(Counting):
    """Its figures change a little with the place of a row, as those of a matrix product may."""

    def probabilities(self, embeddings: Any) -> dict[str, Any]:
        found = super().probabilities(embeddings)
        return {name: table + np.arange(len(table), dtype=np.float32)[:, None] * 1e-4 for name, table in found.items()}


def test_twins_have_the_same_figures_whatever_a_matrix_product_does(tiny_clip: Path) -> None:
    clip = build(tiny_clip, Uneven)
    fresh = score_shard(SHARD, classifier=clip, config=CONFIG)
    assert fresh.embeddings is not None
    assert fresh.people is not None
    stored = stored_tables(fresh.images, fresh.embeddings, fresh.people, clip)
    for scores in (fresh.scores, stored.scores):
        twins = [scores.filter(pc.equal(scores["index"], index)).drop(["index"]) for index in (2, 5)]
        assert twins[0].num_rows == 3 * 2
        assert twins[0].equals(twins[1])
    whole = build(tiny_clip, Uneven, find=False)
    scores = score_shard(SHARD, classifier=whole, config=CONFIG).scores
    one, other = (scores.filter(pc.equal(scores["index"], index)).drop(["index"]) for index in (2, 5))
    assert one.equals(other)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("kind", [Counting, OnDevice])
def test_results_do_not_depend_on_workers_or_on_the_way_of_batching(
    tiny_clip: Path, workers: int, kind: type[Counting]
) -> None:
    one = score_shard(SHARD, classifier=build(tiny_clip), config=CONFIG)
    other = score_shard(SHARD, classifier=build(tiny_clip, kind), config=ScoringConfig(batch_size=3, workers=workers))
    exact = ["prompt_id", "index", "person", "attribute", "decision", "box"]
    assert one.scores.select(exact).equals(other.scores.select(exact))
    assert one.people is not None
    assert other.people is not None
    assert one.people.drop("embedding").equals(other.people.drop("embedding"))
    for left, right in zip(gender_rows(one.scores), gender_rows(other.scores), strict=True):
        assert left["probability"] == pytest.approx(right["probability"], abs=1e-5)
    if kind is Counting:
        assert one.scores.equals(other.scores)


def test_without_a_detector_an_image_is_read_as_a_whole(tiny_clip: Path) -> None:
    with_people, whole = build(tiny_clip), build(tiny_clip, find=False)
    tables = score_shard(SHARD, classifier=whole, config=CONFIG)
    assert tables.people is None
    assert set(tables.scores["person"].to_pylist()) == {0}
    assert set(tables.scores["box"].to_pylist()) == {None}
    # the embeddings of whole images are the same with one
    found = score_shard(SHARD, classifier=with_people, config=CONFIG)
    assert tables.embeddings is not None
    assert found.embeddings is not None
    pairs = zip(tables.embeddings["embedding"].to_pylist(), found.embeddings["embedding"].to_pylist(), strict=True)
    assert all(np.allclose(one, other, atol=2e-3) for one, other in pairs)
    # and parts of one are not taken for parts of the other
    assert scoring_fingerprint(whole, CONFIG) != scoring_fingerprint(with_people, CONFIG)
    assert encoding_fingerprint(whole, CONFIG) != encoding_fingerprint(with_people, CONFIG)


def test_the_presence_gate_says_which_faces_are_persons(tiny_clip: Path) -> None:
    free = score_shard(SHARD, classifier=build(tiny_clip), config=CONFIG).scores.to_pylist()
    sure = {
        (row["index"], row["person"]): dict(row["probabilities"])["person"]
        for row in free
        if row["attribute"] == "presence" and row["index"] in (2, 4)
    }
    three, two = ([sure[index, n] for n in range(count)] for index, count in ((2, 3), (4, 2)))
    # a threshold under which one of the three falls, and one above which one of the two is left
    for threshold in ((sorted(three)[0] + sorted(three)[1]) / 2, (sorted(two)[0] + sorted(two)[1]) / 2):
        tables = score_shard(SHARD, classifier=build(tiny_clip, threshold=threshold), config=CONFIG)
        rows = gender_rows(tables.scores)
        for index, values, boxes in ((2, three, BOXES), (4, two, BOXES[:2])):
            left = [box for box, value in zip(boxes, values, strict=True) if value >= threshold]
            found = [row for row in rows if row["index"] == index]
            assert len(found) == max(1, len(left) if len(left) >= 2 else 1)
            boxed = [tuple(row["box"]) for row in found if row["box"] is not None]
            assert boxed == left
        assert tables.people is not None
        assert tables.people.num_rows == 9  # who was found stays stored


def test_scores_from_the_store_are_those_of_a_fresh_run(tiny_clip: Path) -> None:
    clip = build(tiny_clip)
    fresh = score_shard(SHARD, classifier=clip, config=CONFIG)
    assert fresh.embeddings is not None
    assert fresh.people is not None
    assert fits(fresh.images, fresh.embeddings, fresh.people)
    stored = stored_tables(fresh.images, fresh.embeddings, fresh.people, clip)
    exact = ["prompt_id", "index", "person", "attribute", "box"]
    assert stored.scores.select(exact).equals(fresh.scores.select(exact))
    for left, right in zip(gender_rows(stored.scores), gender_rows(fresh.scores), strict=True):
        assert (left["probability"] or 0) == pytest.approx(right["probability"] or 0, abs=1e-3)
    assert not belong(fresh.people, fresh.embeddings.slice(1))
    assert not belong(fresh.people.take(list(reversed(range(9)))), fresh.embeddings)
    assert not fits(fresh.images, fresh.embeddings, fresh.people.set_column(3, "image", pa.array([0] * 9, pa.int32())))


def test_an_empty_shard_and_one_without_people(tiny_clip: Path) -> None:
    clip = build(tiny_clip)
    for shard in ([], items(b"no image"), items(scene(0, 0))):
        tables = score_shard(shard, classifier=clip, config=CONFIG)
        assert tables.people is not None
        assert tables.people.num_rows == 0
        assert tables.scores.num_rows == 2 * len(shard)


# --- photographs, end to end -----------------------------------------------------------------------------------------

needs_dlib = pytest.mark.skipif(find_spec("dlib") is None, reason="the extra `face` is not installed")


WOMEN = (
    "20_1_0_20170109213411083", "20_1_1_20170112231407182", "20_1_2_20170104015622356", "20_1_2_20170104020440101",
    "20_1_4_20170103225902242", "21_1_0_20170109213126942", "21_1_0_20170116220220347", "21_1_1_20170112231637574",
)  # fmt: skip
MEN = (
    "20_0_4_20170102233239947", "21_0_0_20170116215442146", "21_0_2_20170112192931470", "21_0_4_20161223214759249",
    "22_0_1_20170102233341092", "22_0_1_20170113132548672", "22_0_1_20170116144518064", "22_0_3_20170119162837005",
    "22_0_4_20170103201524479", "22_0_4_20170103224652599", "22_0_4_20170103234615652", "22_0_4_20170104213712014",
)  # fmt: skip
"""UTKFace photographs in which the detector finds one face and that the classifier reads, by more than 0.9, as UTKFace's labellers did, so
that what is tested is the scene."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig]:
    """Scenes of photographs side by side: `women` (three in each), `men`, `both`, and `one` with a face alone."""
    faces, clip_folder = shared_data("utkface-1000"), shared_data("photo-clip")
    root = tmp_path_factory.mktemp("groups")
    config = RunConfig.model_validate(
        {
            "name": "groups",
            "prompts": {"file": str(root / "prompts.yaml"), "set_size": 2},
            "classifier": {"backend": "clip", "pretrained": str(clip_folder), "people": {"detector": "face", "enlarge": 1.3}},
            "attributes": {"file": "configs/attributes/utkface.yaml"},
        }
    )  # fmt: skip
    taken = {"woman": iter(WOMEN), "man": iter(MEN)}
    plan = {"women": ["woman"] * 3, "men": ["man"] * 3, "both": ["woman", "man", "man"], "one": ["man"]}
    for prompt, people in plan.items():
        (root / "archive" / prompt).mkdir(parents=True)
        for index in range(2):
            canvas = Image.new("RGB", (560, 200), "white")
            for place, label in enumerate(people):
                photograph = Image.open(faces / f"{next(taken[label])}.jpg.chip.jpg").resize((160, 160))
                canvas.paste(photograph, (20 + 180 * place, 20))
            canvas.save(root / "archive" / prompt / f"{index}.png")
    prompts = [{"id": p, "text": f"a group of {p}", "people": "several"} for p in ("women", "men", "both")]
    (root / "prompts.yaml").write_text(yaml.safe_dump({"name": "groups", "prompts": [*prompts, "one"]}))
    return root, config


@pytest.fixture(scope="module")
def read(photographs: tuple[Path, RunConfig]) -> tuple[RunFolder, RunSummary]:
    """The run of those scenes, face by face."""
    root, config = photographs
    run = RunFolder(root / "run")
    return run, rescore_module.rescore(config, str(root / "archive"), run, QUIET)


@needs_dlib
@pytest.mark.slow
def test_photographs_are_read_face_by_face(
    photographs: tuple[Path, RunConfig], read: tuple[RunFolder, RunSummary], tmp_path: Path
) -> None:
    (root, config), (run, done) = photographs, read
    scores = pq.read_table(run.scores_path).filter(pc.field("attribute") == "gender").to_pylist()
    people = {(p, i): [r for r in scores if (r["prompt_id"], r["index"]) == (p, i)] for p in ("women", "men", "both", "one") for i in (0, 1)}  # fmt: skip
    assert {key: len(rows) for key, rows in people.items()} == {(p, i): 1 if p == "one" else 3 for p, i in people}
    for (prompt, _), rows in people.items():
        wanted = {"women": ["woman"] * 3, "men": ["man"] * 3, "both": ["woman", "man", "man"]}.get(prompt)
        if wanted is not None:
            assert [row["decision"] for row in rows] == wanted  # from left to right
            assert [20 + 180 * n < row["box"][0] < 180 * (n + 1) for n, row in enumerate(rows)] == [True] * 3
    assert people["one", 0][0]["box"] is not None
    metrics = done.metrics.document()
    counts = {prompt["id"]: prompt["counts"] for prompt in metrics["prompts"]}
    assert (counts["women"]["woman"], counts["men"]["man"], counts["both"]["mixed"]) == (2, 2, 2)
    assert {p["id"]: p["unanimous"] for p in metrics["prompts"] if p["id"] != "one"} == {
        "women": "woman", "men": "man", "both": None
    }  # fmt: skip
    found = metrics["group_scenes"]
    assert found["detector"] == "dlib HOG frontal face detector"
    assert json.loads(run.header_path.read_text())["classifier"]["encoder"]["people"]["detector"] == found["detector"]
    assert found["asked"]["prompts"] == 3
    assert found["asked"]["counted"] == found["asked"]["images"] == 6
    assert found["asked"]["people"] == {"woman": 8, "man": 10, "ambiguous": 0}
    assert found["asked"]["diversity"]["value"] == pytest.approx((0 + 0 + 2 / 3) / 3)
    assert found["other"] is None
    assert done.work == {"scored": 8}
    # a repeated command has nothing to do, and another number of workers changes nothing
    assert rescore_module.rescore(config, str(root / "archive"), run, QUIET).work == {"scored": 0}
    fewer = config.model_copy(update={"scoring": ScoringConfig(workers=0)})
    rescore_module.rescore(fewer, str(root / "archive"), RunFolder(tmp_path / "again"), QUIET)
    one, two = (pq.read_table(folder / "scores.parquet") for folder in (run.path, tmp_path / "again"))
    exact = ["prompt_id", "index", "person", "attribute", "decision", "box"]
    assert one.select(exact).equals(two.select(exact))
    # a processor may add up a matrix product in another order where other rows stand beside it
    assert two["probability"].to_pylist() == pytest.approx(one["probability"].to_pylist(), abs=1e-5)


@needs_dlib
def test_relabelling_keeps_the_people_and_asks_no_detector(
    photographs: tuple[Path, RunConfig],
    read: tuple[RunFolder, RunSummary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, config = photographs
    run = RunFolder(shutil.copytree(read[0].path, tmp_path / "run"))
    monkeypatch.setattr("allfour.models.detectors.face.FaceDetector.__init__", None)  # would be an error to ask
    out = RunFolder(tmp_path / "out")
    relabelled = relabel(run, config.attributes.file, out, QUIET)
    assert relabelled.work == {"relabelled": 8}
    columns = ["prompt_id", "index", "person", "attribute", "decision", "box"]
    tables = [pq.read_table(r.scores_path, columns=columns) for r in (run, out)]
    assert tables[0].equals(tables[1])
    again = relabel(out, config.attributes.file, RunFolder(tmp_path / "third"), QUIET)
    assert again.metrics.document()["group_scenes"] == relabelled.metrics.document()["group_scenes"]
    with pytest.raises(UsageError, match=r"classifier\.people.*allfour rescore"):
        relabel(
            run, config.attributes.file, RunFolder(tmp_path / "no"), QUIET, overrides=["classifier.people.enlarge=2"]
        )
    (people,) = run.embeddings_folder.glob("*.people.arrow")
    people.unlink()
    with pytest.raises(RunFolderError, match="missing, or not as it was written"):
        relabel(run, config.attributes.file, RunFolder(tmp_path / "no"), QUIET)


@needs_dlib
def test_without_a_detector_nobody_is_counted_and_that_is_said(
    photographs: tuple[Path, RunConfig], tmp_path: Path
) -> None:
    root, config = photographs
    block = config.classifier.model_dump() | {"people": {"detector": "none"}}
    whole = RunConfig.model_validate(config.model_dump() | {"classifier": block})
    done = rescore_module.rescore(whole, str(root / "archive"), RunFolder(tmp_path / "run"), QUIET)
    found = done.metrics.document()["group_scenes"]
    assert found["detector"] is None
    assert found["asked"] == {"prompts": 3, "images": 6, "counted": None}
    assert [p["id"] for p in found["prompts"]] == ["both", "men", "women"]
    assert all(p["counted"] is None and sum(p["read_whole"].values()) == 2 for p in found["prompts"])
    assert any("people were not counted" in warning for warning in done.metrics.document()["warnings"])


# --- marks -----------------------------------------------------------------------------------------------------------


def test_prompts_for_several_people_are_marked_in_any_archive(archive: Path) -> None:
    source = MarkedSource(open_source(str(archive), options=ArchiveOptions()), frozenset({"nurse"}))
    plain = list(source.source.shards())
    (shard,) = source.shards()
    assert (shard.id, shard.images) == (plain[0].id, 15)
    assert shard.fingerprint != plain[0].fingerprint
    marks = {(item.image.prompt_id, item.image.extra.get("people")) for item in source.read(shard)}
    assert marks == {("nurse", "several"), ("captain", None), ("maestro", None)}
    assert source.identity() == source.source.identity()
    assert source.summary() == source.source.summary()


def test_what_an_archive_says_itself_stands(archive: Path) -> None:
    lines = ["path,prompt,people"] + [f"{archive}/nurse/{n}.png,nurse,{'one' if n else 'several'}" for n in range(3)]
    manifest = archive / "list.csv"
    manifest.write_text("\n".join(lines) + "\n")
    source = MarkedSource(open_source(str(manifest), options=ArchiveOptions()), frozenset({"nurse"}))
    marks = [item.image.extra["people"] for shard in source.shards() for item in source.read(shard)]
    assert marks == ["several", "one", "one"]


def test_generated_images_carry_the_mark_of_their_prompt(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    prompts = [{"id": "team", "text": "a team of cooks", "people": "several"}, {"id": "cook", "text": "a cook"}]
    file.write_text(yaml.safe_dump({"name": "p", "prompts": prompts}))
    config = RunConfig.model_validate({"classifier": {"backend": "face"}, "prompts": {"file": str(file)}})
    run = RunFolder(tmp_path / "run")
    generate_images(run, make_plan(config), LightGenerator())
    rows = pq.read_table(run.images_path).to_pylist()
    assert {dict(row["extra"]).get("people") for row in rows if row["prompt_id"] == "team"} == {"several"}
    assert {dict(row["extra"]).get("people") for row in rows if row["prompt_id"] == "cook"} == {None}
    # and keep it where another run reads them
    source = open_source(str(run.path), options=ArchiveOptions(layout="run"))
    marks = [item.image.extra.get("people") for shard in source.shards() for item in source.read(shard)]
    assert marks == ["several"] * 4 + [None] * 4


def test_the_bundled_prompt_sets_say_who_is_asked_for() -> None:
    assert {p.people for p in load_prompts("configs/prompts/groups.yaml").prompts} == {"several"}
    article = load_prompts("configs/prompts/article.yaml").prompts
    assert {p.key for p in article if p.people == "several"} == {"daycare", "nanny-two-children", "data-scientists"}
