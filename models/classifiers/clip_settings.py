"""Settings of the classifier `clip`, apart from it: a config is read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers import clip_weights
from allfour.models.classifiers.base import ClassifierSettings
from allfour.models.detectors.people import ByPromptsConfig, NoDetectorConfig, PeopleConfig, WholeImages
from allfour.models.margins import margin_meaning
from allfour.models.settings import FolderOrName, Readiness, named_files

if TYPE_CHECKING:
    from allfour.models.classifiers.clip import ClipClassifier


class OverClipConfig(ClassifierSettings):
    """What every classifier over a CLIP needs to know."""

    model: str | None = None
    """Architecture, such as ViT-L-14; not needed where `pretrained` is a folder in open_clip's own format."""
    pretrained: FolderOrName | None = None
    """A pretrained tag of open_clip (such as openai), a folder, or a .safetensors file."""
    tag: str | None = None
    """The pretrained tag whose weights a .safetensors file holds: activation and preprocessing are the tag's."""
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16", "bfloat16+float32"] = "auto"
    people: PeopleConfig = ByPromptsConfig()
    """How images with several people are read."""

    def files(self) -> list[Path] | None:
        """Weights and configs; None where they lie in a cache, or where a detector brings weights of its own."""
        name = self.pretrained
        if name is None or not isinstance(self.people, WholeImages):
            return None
        return named_files(name.removeprefix("local-dir:"))

    def measures(self) -> bool:
        return not isinstance(self.people, WholeImages) and self.people.landmarks

    def check(self, *, attributes: AttributeSet) -> Readiness:
        """Where the weights lie, and whether the detector is available; nothing is loaded."""
        from allfour.models.classifiers._clip.encoder import pick_device

        self.refuse_unanswerable(attributes)
        pick_device(self.device)
        self.people.finder()
        try:
            return Readiness(True, "; ".join([self._found(attributes), *self._precision(attributes)]))
        except clip_weights.ToBeDownloadedError as error:
            named = f"{self.model}, {self.pretrained}"
            return Readiness(True, named, f"beforehand: {error.command}", warnings=(str(error),))

    def _found(self, attributes: AttributeSet) -> str:
        """What a run would load. Raises ClassifierError where it is not available."""
        weights = self._weights()
        scale = clip_weights.logit_scale_of(weights.weights)
        margins = [margin_meaning(name, spec, logit_scale=scale) for name, spec in attributes.attributes.items()]
        return "; ".join([f"{weights.architecture}, weights {weights.weights}", *margins])

    def _precision(self, attributes: AttributeSet) -> list[str]:
        """What `dtype: auto` would take for a run that begins on this machine; nothing where it is written, or the weights are not there."""
        from allfour.models.classifiers._clip.encoder import auto_precision

        if self.dtype != "auto":
            return []
        size = clip_weights.tower_size_of(self._weights().weights)
        return [f"dtype auto: {auto_precision(self.device, size=size, views=bool(attributes.steady))}"]

    def _weights(self) -> clip_weights.ClipWeights:
        return clip_weights.resolve(model=self.model, pretrained=self.pretrained, tag=self.tag, download=False)

    def for_prompts(self, *, several: bool) -> Self:
        if not isinstance(self.people, ByPromptsConfig):
            return self
        return self.model_copy(update={"people": self.people.settled(several=several)})

    def without_detector(self) -> Self:
        return self.model_copy(update={"people": NoDetectorConfig()})


class ClipConfig(OverClipConfig):
    """Zero-shot classification with an open_clip model."""

    backend: Literal["clip"]

    def looks_again(self) -> bool:
        return True

    def refuse_unanswerable(self, attributes: AttributeSet) -> None:
        super().refuse_unanswerable(attributes)
        if self.dtype == "bfloat16+float32" and attributes.steady:
            raise ClassifierError(
                f"classifier.dtype={self.dtype} cannot be used with attributes.{attributes.steady[0]}.stability, which compares several views of an image. Use `--set classifier.dtype=float32`, or remove the key from the attributes file"
            )

    def build(self, *, attributes: AttributeSet) -> ClipClassifier:
        from allfour.models.classifiers.clip import ClipClassifier

        return ClipClassifier(
            attributes=attributes,
            model=self.model,
            pretrained=self.pretrained,
            tag=self.tag,
            device=self.device,
            dtype=self.dtype,
            people=self.people.finder(),
        )
