"""Skin tone beside a CLIP's reading and a face classifier's: per person, kept with the embeddings, relabelled, and refused without faces."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from allfour.errors import ClassifierError, RunFolderError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import PersonScores
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.classifiers.face import FaceClassifier
from allfour.models.detectors.base import Detection, PeopleFinder
from allfour.models.generators._portrait.attributes import PortraitAttributes
from allfour.models.generators._portrait.draw import render
from allfour.pipeline.archives.base import ArchivedImage, ArchiveItem
from allfour.pipeline.config import RunConfig, ScoringConfig, load_attributes
from allfour.pipeline.scoring.scorer import encoding_fingerprint, score_shard, stored_tables
from scripts.validation import skin_tone_light as drawn

CONFIG = ScoringConfig(batch_size=3, workers=1)
TONES = {"light": 2, "medium": 2, "dark": 0}
"""Of drawn people, and the seed of one whose skin is well inside the Monk steps of that name."""
SKIN = load_attributes("configs/attributes/skin-tone.yaml").attributes
GENDER = {"labels": {"woman": ["a woman"], "man": ["a man"]}}


def asked(*, skin: bool = True, gender: bool = True) -> AttributeSet:
    found: dict[str, Any] = {"gender": GENDER} if gender else {}
    found |= {"skin tone": SKIN["skin tone"].model_dump()} if skin else {}
    return AttributeSet.model_validate({"headline": next(iter(found)), "attributes": found})


def people(*tones: str) -> tuple[Image.Image, list[Detection]]:
    """Drawn people side by side, and where their faces are."""
    picture, faces = Image.new("RGB", (drawn.SIZE * max(1, len(tones)), drawn.SIZE)), []
    for place, tone in enumerate(tones):
        person, shift = PortraitAttributes(gender="woman", skin_tone=tone, age="young"), place * drawn.SIZE
        picture.paste(render(person, seed=TONES[tone], size=drawn.SIZE), (shift, 0))
        face = drawn.drawn_face(person, TONES[tone])
        left, top, right, bottom = face.box
        points = tuple((x + shift, y) for x, y in face.landmarks)
        faces.append(Detection((left + shift, top, right + shift, bottom), 1.0, points))
    return picture, faces


PICTURES = [people(*TONES), people("dark"), people()]


class Known:
    """Finds the faces that were drawn, told by the picture's width and tone."""

    def identity(self) -> dict[str, Any]:
        return {"detector": "known"}

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        return next(faces for picture, faces in PICTURES if picture.tobytes() == image.tobytes())


def items() -> list[ArchiveItem]:
    listed = []
    for index, (picture, _) in enumerate([*PICTURES, PICTURES[0]]):  # the last is the first again
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        image = ArchivedImage(prompt_id="p", prompt="p", index=index, path=f"{index}.png")
        listed.append(ArchiveItem(image, buffer.getvalue()))
    return listed


def decisions(scores: pa.Table, attribute: str) -> list[tuple[int, int, str]]:
    rows = [row for row in scores.to_pylist() if row["attribute"] == attribute]
    return [(row["index"], row["person"], row["decision"]) for row in rows]


READ = [(0, 0, "light"), (0, 1, "medium"), (0, 2, "dark"), (1, 0, "dark"), (2, 0, "ambiguous"),
        (3, 0, "light"), (3, 1, "medium"), (3, 2, "dark")]  # fmt: skip


def clip(folder: Path, attributes: AttributeSet) -> ClipClassifier:
    return ClipClassifier(
        attributes=attributes, model=None, pretrained=str(folder), people=PeopleFinder(Known(), enlarge=1.6)
    )


def test_a_clip_run_reads_the_skin_of_each_person(tiny_clip: Path) -> None:
    classifier = clip(tiny_clip, asked())
    tables = score_shard(items(), classifier=classifier, config=CONFIG)
    assert decisions(tables.scores, "skin tone") == READ
    assert len(decisions(tables.scores, "gender")) == len(READ)
    # from the store, as `relabel` reads it: under other groups, and without an encoder's help
    assert tables.embeddings is not None
    other = asked(gender=False)
    again = stored_tables(tables.images, tables.embeddings, tables.people, clip(tiny_clip, other))
    assert decisions(again.scores, "skin tone") == READ
    with_skin, without = (encoding_fingerprint(clip(tiny_clip, a), CONFIG) for a in (asked(), asked(skin=False)))
    assert with_skin != without  # a run that did not measure is scored again
    assert with_skin == encoding_fingerprint(classifier, CONFIG)


def test_a_run_that_did_not_measure_says_so(tiny_clip: Path) -> None:
    plain = score_shard(items(), classifier=clip(tiny_clip, asked(skin=False)), config=CONFIG)
    assert plain.embeddings is not None
    with pytest.raises(
        RunFolderError, match="no measure of skin, which skin tone would be read from: score the images again"
    ):
        stored_tables(plain.images, plain.embeddings, plain.people, clip(tiny_clip, asked()))


def test_the_face_classifier_reads_the_same_skin() -> None:
    class NoReader:
        def identity(self) -> dict[str, Any]:
            return {}

        def read(self, image: Image.Image, faces: Sequence[Detection]) -> tuple[Any, Any]:
            return [0.1] * len(faces), [[]] * len(faces)

    face = FaceClassifier(attributes=asked(), detector=Known(), reader=NoReader())
    found: list[PersonScores] = [person for picture, _ in PICTURES[:2] for person in face.classify(picture)]
    tones = [max(p.probabilities["skin tone"], key=p.probabilities["skin tone"].__getitem__) for p in found]
    assert tones == ["light", "medium", "dark", "dark"]
    assert face.identity()["skin_tone"]["version"] == 1


@pytest.mark.parametrize(
    ("block", "answers"),
    [
        ({"backend": "clip"}, False),
        ({"backend": "clip", "people": {"detector": "face"}}, False),
        ({"backend": "clip", "people": {"detector": "centerface"}}, True),
        ({"backend": "face", "detector": "dlib"}, False),
        ({"backend": "face", "detector": "centerface"}, True),
    ],
)
def test_what_finds_no_face_is_refused_before_anything_is_loaded(block: dict[str, Any], answers: bool) -> None:
    settings = RunConfig.model_validate({"classifier": block}).classifier
    settings.refuse_unanswerable(asked(skin=False))
    if answers:
        settings.refuse_unanswerable(asked())
        return
    with pytest.raises(ClassifierError, match=r"cannot measure skin tone.*people\.detector=centerface"):
        settings.refuse_unanswerable(asked())
