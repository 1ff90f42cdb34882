"""The classifier protocols: images in, probabilities per attribute and label out.

Four kinds. An `EmbeddingClassifier` is an image encoder and a head, kept apart so that stored embeddings can be relabelled with
new wording at almost no cost. A `PersonClassifier` looks for people itself and describes each. `AskedPeople` has
somebody else look. `RecordedPeople` are known beforehand. None takes decisions: margins and the presence gate are applied by the pipeline, in one place for all.

What a classifier may do besides stands in protocols of its own; one that lacks it is served by the default that each names.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.detectors.base import PeopleFinder
from allfour.models.settings import BackendSettings, Readiness

if TYPE_CHECKING:
    from PIL import Image

FloatArray = NDArray[np.float32]
HalfArray = NDArray[np.float16]
ByteArray = NDArray[np.uint8]


@runtime_checkable
class Classifier(Protocol):
    """What every classifier has."""

    @property
    def attributes(self) -> AttributeSet: ...

    def identity(self) -> Mapping[str, Any]:
        """Architecture, sha256 of the weights, preprocessing, wording. JSON-serialisable.

        Scores of two runs can be compared only where `identity()` agrees.
        """
        ...


@runtime_checkable
class EmbeddingClassifier(Classifier, Protocol):
    """An encoder (RGB -> unit embeddings) and a head (embeddings -> probabilities)."""

    @property
    def embedding_dim(self) -> int: ...

    def encoder_identity(self) -> Mapping[str, Any]:
        """The part of the identity that embeddings depend on: weights and preprocessing, not wording."""
        ...

    def prepare(self, image: Image.Image) -> ByteArray:
        """An RGB image of any size -> the encoder's input [H, W, 3], uint8. Runs in decoding workers: no torch state."""
        ...

    def encode(self, batch: ByteArray) -> FloatArray:
        """[N, H, W, 3] uint8 -> [N, D] float32, each row of unit length."""
        ...

    def probabilities(self, embeddings: FloatArray | HalfArray) -> dict[str, FloatArray]:
        """[N, D] -> question -> [N, labels] float32, rows summing to 1, labels in `attributes.labels(question)` order.

        `embeddings` may be float16, as they are stored; sums are in float32 all the same.
        """
        ...


@runtime_checkable
class ParallelEncoder(Protocol):
    """An `EmbeddingClassifier` that may encode in several threads at once: on the CPU, with one core to each, nothing waits.

    Default: one thread encodes.
    """

    @property
    def encodes_in_parallel(self) -> bool:
        """False where the encoder sits on a device, which one thread feeds."""
        ...

    def encode_on_one_core(self, batch: ByteArray) -> FloatArray:
        """`encode` that leaves the other cores to other threads."""
        ...


TWICE: Final = "bfloat16+float32"
"""`dtype` of an encoder: bfloat16, and float32 wherever that could change a decision. So its decisions are those of `float32`."""
NO_UNITS: Final = "this CPU has no bfloat16 units"
"""Why such an encoder works in float32 throughout."""


@runtime_checkable
class HalfEncoder(Protocol):
    """An `EmbeddingClassifier` that can also encode at half the cost and some error: `encode` stays exact, and the pipeline uses it wherever
    the error could change a decision. Default: everything is encoded by `encode`."""

    @property
    def encodes_in_half(self) -> bool:
        """Whether what it scores may be encoded so: part of its identity."""
        ...

    @property
    def gains_by_half(self) -> bool:
        """Whether this machine encodes faster so. Where it does not, `encode` does everything, and decides alike."""
        ...

    def encode_in_half(self, batch: ByteArray) -> FloatArray:
        """As `encode`, in half precision, and as `ParallelEncoder.encode_on_one_core` leaves the other cores to other threads."""
        ...


def encodes_in_half(classifier: Classifier) -> bool:
    """Whether a classifier encodes some images in half precision."""
    return isinstance(classifier, HalfEncoder) and classifier.encodes_in_half


@runtime_checkable
class OpenPrecision(HalfEncoder, Protocol):
    """A `HalfEncoder` whose settings may leave its precision open: it encodes in full until the pipeline settles it, once for a run. Default:
    the settings have said it."""

    @property
    def precision_open(self) -> bool:
        """Whether they left it open, whatever was settled since."""
        ...

    def why_in_full(self) -> str | None:
        """Why half precision would gain nothing, whatever the machine and the images are; None where it may gain."""
        ...

    @property
    def has_half_units(self) -> bool:
        """Whether this machine multiplies such numbers in hardware."""
        ...

    def settle(self, *, half: bool) -> None:
        """Encode in half precision wherever that changes no decision, or in full. `identity` says which from now on.

        Raises
        ------
        ClassifierError
            The precision is not open.
        """
        ...


PIECE = 2**24
"""Bytes of pictures that are staged at once, such as 21 of 512 x 512 pixels: little enough to be in a processor's cache when it is copied."""


class Staging(Protocol):
    """Takes pictures to a device piece by piece, and encodes what was taken there."""

    def stage(self, pictures: ByteArray) -> Any:
        """Begin to take pictures over: at most `PIECE` bytes, or one.

        Parameters
        ----------
        pictures
            [N, height, width, 3]: of the input's size, or of one that the encoder takes. They may be changed when this returns.

        Returns
        -------
        What `encode_staged` knows them by.
        """
        ...

    def encode_staged(self, staged: Sequence[Any], size: int) -> Callable[[], FloatArray]:
        """Start on a batch and return at once; the result, when called, waits for it. At most two batches may be under way.

        Parameters
        ----------
        staged
            What `stage` gave, in order.
        size
            Images that every batch has: those that are missing are black.

        Returns
        -------
        A function without arguments: -> [size, D].
        """
        ...


@runtime_checkable
class StagingEncoder(Staging, EmbeddingClassifier, Protocol):
    """An `EmbeddingClassifier` whose device works while the next batch is made ready. Default: it is waited for."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, 3] of what `prepare` gives."""
        ...

    def takes(self, height: int, width: int) -> bool:
        """Whether `stage` takes RGB images of this size as they were decoded, and the device resizes them to the bytes of `prepare`."""
        ...


@runtime_checkable
class LentEncoder(StagingEncoder, Protocol):
    """A `StagingEncoder` that other processes may use: they have everything of it but the model. Default: one process scores."""

    @property
    def lendable(self) -> bool:
        """Whether it sits on a device that several processes can keep busier than one, and nothing but the model stays here."""
        ...

    def lend(self) -> LentEncoder:
        """The same classifier without its model. Picklable; it cannot encode before `encodes_at`."""
        ...

    def encodes_at(self, elsewhere: Staging) -> None:
        """Have pictures taken to another process, and encoded there."""
        ...


@runtime_checkable
class Rewordable(Protocol):
    """An `EmbeddingClassifier` whose embeddings can be read under many wordings at once. Default: no sensitivity analysis."""

    def reworded(
        self, wordings: Sequence[AttributeSet]
    ) -> Callable[[FloatArray | HalfArray], list[dict[str, FloatArray]]]:
        """A zero-shot head for every wording, whatever the classifier's own head is.

        Returns
        -------
        A function: embeddings [N, D] -> per wording question -> [N, labels], as `EmbeddingClassifier.probabilities` of a
        zero-shot classifier with that wording gives them.
        """
        ...


@runtime_checkable
class FindsPeople(Protocol):
    """An `EmbeddingClassifier` that may be shown the people of an image one by one. Default: see `people_of`."""

    @property
    def people(self) -> PeopleFinder | None:
        """None: images are read as a whole."""
        ...


def people_of(classifier: Classifier) -> PeopleFinder | None:
    """Who finds the people that a classifier is shown one by one; None where it reads images as a whole."""
    return classifier.people if isinstance(classifier, FindsPeople) else None


@dataclass(frozen=True, slots=True)
class PersonScores:
    """One person that a `PersonClassifier` found in an image."""

    probabilities: Mapping[str, Mapping[str, float]]
    """Attribute -> label -> probability; an attribute that the classifier cannot judge is absent."""
    box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom in pixels of the decoded image."""


@runtime_checkable
class PersonClassifier(Classifier, Protocol):
    """Finds people in an image and describes each of them."""

    def classify(self, image: Image.Image) -> Sequence[PersonScores]:
        """An RGB image -> one entry per person found, in reading order; empty where nobody was found."""
        ...


@dataclass(frozen=True, slots=True)
class Unread:
    """Why an image has no reading."""

    reason: str
    again: bool = False
    """Whether the same command, repeated, is to ask once more."""


Reading = Sequence[PersonScores] | Unread


@runtime_checkable
class AskedPeople(Classifier, Protocol):
    """Has somebody else, over a network, say who is in an image; several are asked about at once."""

    def prepare(self, image: Image.Image) -> bytes:
        """An RGB image as it is sent. Runs in decoding workers."""
        ...

    def read(self, images: Iterator[tuple[str, bytes]]) -> Generator[tuple[str, Reading]]:
        """What is said of each image, in the order in which answers come.

        Parameters
        ----------
        images
            sha256 of each image's bytes, none twice, and what `prepare` made of it. Taken one by one as there is room.

        Raises
        ------
        ClassifierError
            No further question makes sense. Answers that came are kept, and are used when the command is repeated.
        """
        ...


@runtime_checkable
class KeepsAccounts(Protocol):
    """A classifier that costs money or time elsewhere, and keeps what it got for it. Default: nothing is kept."""

    def keep_accounts(self, path: Path) -> None:
        """Keep accounts and answers in this file from now on."""
        ...

    def recount(self, earlier: Mapping[str, Any], *, read: int) -> str | None:
        """Book what the accounts lack, where their file was lost: else `max_cost` could be spent again.

        Parameters
        ----------
        earlier
            Totals that `account` gave when a command last ended; empty where none did.
        read
            Different pictures that this classifier has read for the run.

        Returns
        -------
        What to tell the user; None where nothing was lacking.
        """
        ...

    def estimate(self, images: int) -> str:
        """What reading so many images would cost, in a sentence."""
        ...

    def account(self) -> dict[str, Any]:
        """Totals of what was asked and spent, JSON-serialisable."""
        ...


@runtime_checkable
class RecordedPeople(Classifier, Protocol):
    """Knows who is in an image by its name, without looking at it."""

    @property
    def questions(self) -> tuple[str, ...]:
        """What it has answers to: the attributes, and the presence gate before them where that was recorded too."""
        ...

    def find(self, *, sha256: str, path: str | None) -> Sequence[PersonScores] | None:
        """The persons of an image by the hash of its bytes or by its path, in order; None where nothing is known of it.

        Where the attribute set has a presence gate, a person may have probabilities of `presence` too.
        """
        ...

    def missing(self) -> str:
        """What is said of an image of which nothing is known."""
        ...


class ClassifierSettings(BackendSettings):
    """The block `classifier`. A backend's own settings are a subclass of this one, with the field `backend: Literal["NAME"]` and what
    `build` hands to its class."""

    hosted: ClassVar[bool] = False
    """Asked over a network, by one process alone: `--rank` and `--engine ray` are refused."""

    backend: str

    def build(self, *, attributes: AttributeSet) -> Classifier:
        """The classifier, for these questions. Imports what it needs. Raises ClassifierError where it is not available."""
        raise NotImplementedError

    def measures(self) -> bool:
        """Whether attributes can be answered by the pixels of faces (`source: skin-tone`). Default: they cannot."""
        return False

    def looks_again(self) -> bool:
        """Whether other views of an image are read too, where an attribute asks for `stability`. Default: they are not."""
        return False

    def refuse_unanswerable(self, attributes: AttributeSet) -> None:
        """Raise ClassifierError where nothing would answer an attribute; before anything is loaded."""
        if attributes.steady and not self.looks_again():
            raise ClassifierError(
                f"classifier.backend={self.backend} looks at each image once, but attributes.{attributes.steady[0]}.stability needs several views of it. Use the backend clip, which has them, or remove the key from the attributes file"
            )
        if attributes.measured and not self.measures():
            raise ClassifierError(
                f"classifier.backend={self.backend} cannot measure {', '.join(attributes.measured)}, which is read from the pixels of a face. Let CenterFace find the faces (extra `face`): `--set classifier.people.detector=centerface` with a CLIP, or the backend face with `--set classifier.detector=centerface`. Or use another attributes file"
            )

    def check(self, *, attributes: AttributeSet) -> Readiness:
        """Whether it can be built, in seconds and without a download. Default: it is built. Raises ClassifierError."""
        self.build(attributes=attributes)
        return Readiness(True, "ready")

    def for_prompts(self, *, several: bool) -> Self:
        """The same, with what was left open settled for prompts of which one asks for several people, or none does. Default: nothing is."""
        return self

    def without_detector(self) -> Self:
        """The same, with nobody looked for. Default: these settings, which name no detector."""
        return self
