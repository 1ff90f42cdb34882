"""Settings of the classifier `linear-probe`, apart from it: a config is read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.clip_settings import OverClipConfig
from allfour.models.settings import LocalPath, named_files, on_disk

if TYPE_CHECKING:
    from allfour.models.classifiers.linear_probe import LinearProbeClassifier


class LinearProbeConfig(OverClipConfig):
    """Logistic regression on frozen CLIP embeddings, fitted by `allfour calibrate --fit-probe`."""

    backend: Literal["linear-probe"]
    probe: LocalPath
    """The fitted probe, a .safetensors file."""

    def files(self) -> list[Path] | None:
        found, probe = super().files(), named_files(self.probe)
        return None if found is None or probe is None else [*found, *probe]

    def build(self, *, attributes: AttributeSet) -> LinearProbeClassifier:
        from allfour.models.classifiers.linear_probe import LinearProbeClassifier

        return LinearProbeClassifier(
            attributes=attributes,
            probe=self.probe,
            model=self.model,
            pretrained=self.pretrained,
            tag=self.tag,
            device=self.device,
            dtype=self.dtype,
            people=self.people.finder(),
        )

    def _found(self, attributes: AttributeSet) -> str:
        from allfour.models.classifiers.linear_probe import Probe

        probe = Probe.load(Path(on_disk(self.probe)))
        weights = self._weights()
        sha256 = weights.sha256()
        if probe.encoder.get("weights_sha256") == sha256 or "tensors_sha256" not in probe.encoder:
            probe.check(attributes, {"architecture": weights.architecture, "weights_sha256": sha256})
        else:  # the same weights in another file, or others: only the tensors tell
            from allfour.models.classifiers._clip.encoder import ClipEncoder

            probe.check(attributes, ClipEncoder(weights=weights, device=self.device, dtype=self.dtype).identity)
        return f"{weights.architecture}, weights {weights.weights}; probe of {', '.join(probe.labels)}"
