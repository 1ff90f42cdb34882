"""Stability: a label that changes when an image is mirrored, cropped a little or moved is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.classifiers.face import FaceConfig
from allfour.models.classifiers.views import VIEW_NAMES, steadiness, views_of
from allfour.pipeline.scoring.decisions import decide_all


def asked(*, stability: bool) -> AttributeSet:
    labels = {"woman": ["a woman"], "man": ["a man"]}
    return AttributeSet.model_validate({"attributes": {"gender": {"labels": labels, "stability": stability}}})


def test_the_views_are_of_one_size_but_for_the_crop_and_show_the_same() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8))
    whole, mirrored, cropped, moved = (np.asarray(view) for view in views_of(image))
    assert len(VIEW_NAMES) == 4 and (mirrored == whole[:, ::-1]).all()
    assert (cropped == whole[2:48, 4:96]).all()
    assert (moved[2:, 4:] == whole[:48, :96]).all() and (moved[:2, 4:] == whole[:1, :96]).all()
    assert [view.size for view in views_of(Image.new("RGB", (1, 1)))] == [(1, 1)] * 4


def test_every_view_is_read_as_if_it_were_an_image_of_its_own(tiny_clip: Path, picture: Callable[..., Image.Image]) -> None:  # fmt: skip
    once, again = (
        ClipClassifier(attributes=asked(stability=on), model=None, pretrained=str(tiny_clip), device="cpu")
        for on in (False, True)
    )
    pictures = [picture(seed) for seed in range(40)]
    embeddings = again.encode(np.stack([again.prepare(image) for image in pictures]))
    assert embeddings.shape == (40, 4 * once.embedding_dim) and again.embedding_dim == 4 * once.embedding_dim
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    found = again.probabilities(embeddings)
    tables = []
    for place in range(4):
        views = [views_of(image)[place] for image in pictures]
        tables.append(once.probabilities(once.encode(np.stack([once.prepare(view) for view in views])))["gender"])
    assert np.allclose(found["gender"], tables[0], atol=1e-5)
    same = np.mean([table.argmax(axis=1) == tables[0].argmax(axis=1) for table in tables], axis=0)
    assert np.allclose(found[steadiness("gender")][:, 0], same)
    assert "views" in again.identity()["encoder"] and "views" not in once.identity()["encoder"]


def test_an_image_whose_views_differ_is_unclear_however_sure_it_was() -> None:
    probabilities = np.array([[0.99, 0.01], [0.99, 0.01], [0.1, 0.9]], dtype=np.float32)
    found = {"gender": probabilities, steadiness("gender"): np.array([[1.0], [0.75], [1.0]], dtype=np.float32)}
    assert decide_all(found, asked(stability=True))["gender"].decision.tolist() == ["woman", "ambiguous", "man"]
    assert decide_all(found, asked(stability=False))["gender"].decision.tolist() == ["woman", "woman", "man"]


def test_a_classifier_that_looks_once_refuses_to_be_asked() -> None:
    with pytest.raises(ClassifierError, match="looks at each image once"):
        FaceConfig(backend="face").refuse_unanswerable(asked(stability=True))
