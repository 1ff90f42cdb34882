"""The image tower of an open_clip model with its own preprocessing, and the vectors of texts by its text tower."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from allfour.errors import ClassifierError, with_choices
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers import clip_weights
from allfour.models.classifiers._clip.device_resize import DeviceTransform
from allfour.models.classifiers._clip.half import HalfTower, has_bfloat16_units, why_in_full
from allfour.models.classifiers._clip.hub import copied_from_another_machine
from allfour.models.classifiers._clip.staging import CudaStaging
from allfour.models.classifiers._clip.undrawn import nothing_drawn
from allfour.models.classifiers._clip.zero_shot import Question, zero_shot_probabilities
from allfour.models.classifiers.base import NO_UNITS, TWICE, ByteArray, FloatArray, HalfArray, Staging
from allfour.models.classifiers.views import NUDGE, VIEW_NAMES, views_of
from allfour.models.devices import choose_device
from allfour.process.bare_packages import lay_bare


def pick_device(device: str) -> torch.device:
    """`auto` is the first of cuda, mps, cpu that this machine has. Raises ClassifierError where the device is not there."""
    try:
        return torch.device(choose_device(device))
    except ValueError as error:
        raise ClassifierError(f"classifier.device: {error}") from None


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is float16 on a GPU and float32 elsewhere; logits are float32 in any case."""
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if dtype == TWICE:
        if device.type != "cpu":
            raise ClassifierError(
                f"classifier.dtype={TWICE} works on CPUs only, and the encoder runs on {device.type}. Use 'auto' there (float16 on CUDA)"
            )
        return torch.float32
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[dtype]


def auto_precision(device: str, *, size: int | None, views: bool) -> str:
    """What a run that begins here takes by `dtype: auto`, and why, as far as that does not depend on its images.

    Parameters
    ----------
    size, views
        See `why_in_full`.
    """
    place = pick_device(device)
    if place.type != "cpu":
        return f"{str(pick_dtype('auto', place)).removeprefix('torch.')} (on {place.type})"
    why = why_in_full(size=size, views=views) or (None if has_bfloat16_units() else NO_UNITS)
    return (
        f"float32 ({why})" if why else f"{TWICE}, if there are enough images (this CPU multiplies bfloat16 in hardware)"
    )


def _built(weights: clip_weights.ClipWeights) -> tuple[Any, Any]:
    """The model and its transform for inference, of the file that `weights` names and of no other."""
    lay_bare()
    import open_clip

    if weights.config is not None:
        return weights.config.build(weights.weights)
    with nothing_drawn():
        model, _, transform = open_clip.create_model_and_transforms(
            weights.name, pretrained=str(weights.weights), precision="fp32", device="cpu", **weights.overrides
        )
    return model, transform


def _content_sha256(tensors: Mapping[str, Any]) -> str:
    """Over names, shapes and float32 values of a model's tensors: the same for one set of weights, however they were stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().reshape(-1).numpy().view(np.uint8))
    return digest.hexdigest()


class ClipEncoder:
    """The image tower of an open_clip model: RGB -> unit embeddings, with the model's own preprocessing."""

    def __init__(
        self, *, weights: clip_weights.ClipWeights, device: str = "auto", dtype: str = "auto", views: bool = False
    ) -> None:
        self._weights = weights
        self._views = len(VIEW_NAMES) if views else 1
        """An image's views stand one under the other in its input, and one after the other in its embedding."""
        self._device = pick_device(device)
        self.on_gpu, self.on_cpu = self._device.type == "cuda", self._device.type == "cpu"
        self._dtype = pick_dtype(dtype, self._device)
        self._half: HalfTower | None = None
        self.in_half = dtype == TWICE and has_bfloat16_units()
        self.precision_open = dtype == "auto" and self._device.type == "cpu"
        """Whether the settings left it to the run: see `OpenPrecision`."""
        level = logging.getLogger().level
        try:
            model, transform = _built(weights)
        except ClassifierError:
            raise
        except Exception as error:  # whatever a damaged file raises, the user needs the file's name
            raise ClassifierError(
                f"{weights.weights}: open_clip cannot load these weights as {weights.architecture}: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
            ) from None
        finally:
            logging.getLogger().setLevel(level)
        model.eval()
        model.requires_grad_(False)
        if any(not torch.isfinite(parameter).all() for parameter in model.parameters()):
            raise ClassifierError(
                f"{weights.weights}: the weights contain values that are not finite. The file is damaged; get it again"
            )
        self.model = model
        self.logit_scale = float(model.logit_scale.exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias)
        tensors = dict(model.state_dict())  # as they were loaded, wherever the model is moved
        self._size = sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("visual."))
        pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        # beside what follows: hashing leaves the interpreter free
        self._tensors_sha256 = pool.submit(_content_sha256, tensors)
        pool.shutdown(wait=False)
        self._preprocess: Mapping[str, Any] = dict(model.visual.preprocess_cfg)
        # All steps of open_clip's transform before the tensor run on PIL images and leave uint8; normalisation is left to the
        # device. So the pixels that reach the tower are those of open_clip's own transform, bit for bit.
        steps = list(transform.transforms)
        to_tensor = next(i for i, step in enumerate(steps) if "ToTensor" in type(step).__name__)
        self._to_input: list[Callable[[Any], Any]] = steps[:to_tensor]
        self._on_device = DeviceTransform(self._to_input, self._device)
        shape = (1, 3, 1, 1)
        # (x/255 - mean) / std  =  x * a + b
        mean, std = (torch.tensor(self._preprocess[k], dtype=torch.float32).view(shape) for k in ("mean", "std"))
        self._mean, self._std = mean.to(self._device), std.to(self._device)
        self._staging: CudaStaging | None = None
        self._texts: dict[str, torch.Tensor] = {}
        self._elsewhere: Staging | None = None
        """Set where this process has no model and another one encodes."""

    def to_device(self) -> None:
        """Move the image tower to its device and dtype. The text tower stays on the CPU in fp32, where it runs once."""
        self.model.visual.to(device=self._device, dtype=self._dtype)
        if self.in_half:
            self._half = HalfTower(self.model)
        if self._device.type == "cuda":
            self.model.visual.to(memory_format=torch.channels_last)

    @property
    def gains_by_half(self) -> bool:
        return self._half is not None

    def why_in_full(self) -> str | None:
        """See `OpenPrecision`."""
        return why_in_full(size=self._size, views=self._views > 1)

    @property
    def has_half_units(self) -> bool:
        return has_bfloat16_units()

    def settle(self, *, half: bool) -> None:
        """See `OpenPrecision`. Where the CPU has no bfloat16 units there is no tower in half precision: torch would imitate them, and take 2
        to 4 times as long as in float32."""
        if not self.precision_open:
            raise ClassifierError(
                f"this run's images were encoded with classifier.dtype={TWICE}, which works on CPUs only, and now the encoder runs on {self._device.type}. Set classifier.device=cpu, or score them into another folder with --run"
            )
        self.in_half = half
        self._half = HalfTower(self.model) if half and has_bfloat16_units() else None
        self.__dict__.pop("identity", None)

    @cached_property
    def embedding_dim(self) -> int:
        return int(self.encode(np.zeros((1, *self.input_shape), dtype=np.uint8)).shape[1])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, 3] of what `prepare` gives."""
        size = self._preprocess["size"]
        height, width = (size, size) if isinstance(size, int) else size
        return height * self._views, width, 3

    def without_model(self) -> ClipEncoder:
        """Everything of it that another process can have: see `LentEncoder`."""
        _ = self.identity, self.embedding_dim, self._resizes  # found out here, where the model and the device are
        twin = copy.copy(self)
        twin.model, twin._mean, twin._std, twin._staging = None, torch.empty(0), torch.empty(0), None
        twin._on_device = DeviceTransform(self._to_input, torch.device("cpu"))
        for name in ("_tokenizer", "_tensors_sha256"):  # what cannot travel; the identity has the hash
            twin.__dict__.pop(name, None)
        return twin

    def encodes_at(self, elsewhere: Staging) -> None:
        self._elsewhere = elsewhere

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        config = json.dumps(dict(self._preprocess), sort_keys=True, default=list)
        tokenizer = self._weights.tokenizer_sha256()
        return {
            "architecture": self._weights.architecture,
            "pretrained": self._weights.tag,
            "weights_sha256": self._weights.sha256(),
            "tensors_sha256": self._tensors_sha256.result(),
            **({} if tokenizer is None else {"tokenizer_sha256": tokenizer}),
            "model_config_sha256": hashlib.sha256(repr(self.model.visual).encode()).hexdigest(),
            "preprocess": json.loads(config),
            "dtype": TWICE if self.in_half else str(self._dtype).removeprefix("torch."),
            **({"half": dict(HalfTower.identity)} if self.in_half else {}),
            "logit_scale": round(self.logit_scale, 6),
            **({} if self._views == 1 else {"views": {"names": list(VIEW_NAMES), "nudge": NUDGE}}),
            **({} if self.logit_bias is None else {"logit_bias": round(self.logit_bias, 6)}),
        }

    def probabilities(
        self,
        embeddings: FloatArray | HalfArray,
        texts: Mapping[Question, FloatArray],
        *,
        gates: Collection[Question],
    ) -> dict[Question, FloatArray]:
        """`zero_shot_probabilities` with the model's own scale and bias, of the image as it is."""
        return self._of_view(0, embeddings, texts, gates)

    def steady(
        self, embeddings: FloatArray | HalfArray, texts: Mapping[Question, FloatArray]
    ) -> dict[Question, FloatArray]:
        """Question -> [N, 1] share of the views whose likeliest label is that of the image as it is."""
        tables = [self._of_view(view, embeddings, texts, ()) for view in range(self._views)]
        found = {}
        for question, own in tables[0].items():
            same = np.stack([table[question].argmax(axis=1) == own.argmax(axis=1) for table in tables], axis=1)
            found[question] = np.asarray(same.mean(axis=1, keepdims=True), dtype=np.float32)
        return found

    def _of_view(
        self,
        view: int,
        embeddings: FloatArray | HalfArray,
        texts: Mapping[Question, FloatArray],
        gates: Collection[Question],
    ) -> dict[Question, FloatArray]:
        """Probabilities by one view; an embedding of several is of unit length as a whole, and each view's part is not."""
        own = embeddings
        if self._views > 1:
            size = embeddings.shape[1] // self._views
            own = np.asarray(embeddings[:, view * size : (view + 1) * size], dtype=np.float32) * np.float32(
                self._views**0.5
            )
        return zero_shot_probabilities(
            own, texts, logit_scale=self.logit_scale, logit_bias=self.logit_bias, gates=gates
        )

    def prepare(self, image: Image.Image) -> ByteArray:
        """RGB image -> [H, W, 3] uint8 at the tower's input size, by open_clip's own resize and crop; [4 H, W, 3] of its views."""
        if self._views == 1:
            return self._prepared(image)
        return np.concatenate([self._prepared(view) for view in views_of(image)])

    def _prepared(self, image: Image.Image) -> ByteArray:
        value: Any = image
        for step in self._to_input:
            value = step(value)
        return np.asarray(value, dtype=np.uint8)

    def encode(self, batch: ByteArray) -> FloatArray:
        """[N, H, W, 3] uint8 -> [N, D] float32 of unit length."""
        return self.encode_staged([self.stage(batch)], len(batch))()

    def takes(self, height: int, width: int) -> bool:
        """See `StagingEncoder`."""
        return self.on_gpu and self._views == 1 and self._resizes and self._on_device.takes(height, width)

    @cached_property
    def _resizes(self) -> bool:
        """Whether the device resizes as Pillow does, as far as one size of pictures shows."""
        height, width, _ = self.input_shape
        return self._on_device.works(2 * height, 2 * width)

    @torch.inference_mode()
    def stage(self, pictures: ByteArray) -> Any:
        """See `Staging`."""
        if self._elsewhere is not None:
            return self._elsewhere.stage(pictures)
        if self._device.type != "cuda":
            return self._resized(torch.from_numpy(pictures.copy()).to(self._device))
        if self._staging is None:
            self._staging = CudaStaging(self._device, self._resized)
        return self._staging.stage(pictures)

    @torch.inference_mode()
    def encode_staged(self, staged: Sequence[Any], size: int) -> Callable[[], FloatArray]:
        """See `Staging`."""
        if self._elsewhere is not None:
            return self._elsewhere.encode_staged(staged, size)
        pixels = torch.cat(list(staged)) if self._staging is None else self._staging.gathered(staged)
        if len(pixels) < size:
            pixels = torch.cat([pixels, pixels.new_zeros((size - len(pixels), *pixels.shape[1:]))])
        features = self._features(pixels)
        if self._staging is not None:
            return self._staging.fetch(features)
        return lambda: np.asarray(features.cpu().numpy(), dtype=np.float32)

    def _resized(self, pixels: torch.Tensor) -> torch.Tensor:
        """[N, h, w, 3] uint8 on the device -> [N, H, W, 3] uint8 there; what `prepare` made stays as it is."""
        return pixels if tuple(pixels.shape[1:]) == self.input_shape else self._on_device(pixels)

    @torch.inference_mode()
    def encode_in_half(self, batch: ByteArray) -> FloatArray:
        """[N, H, W, 3] uint8 -> [N, D] float32 of unit length, by products in bfloat16."""
        assert self._half is not None, "asked of an encoder without a tower in half precision"
        return np.asarray(self._features(torch.from_numpy(batch), self._half.encode_image).numpy(), dtype=np.float32)

    def _features(
        self, pixels: torch.Tensor, encode_image: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """[N, H, W, 3] uint8 on the device -> [N, D] float32 of unit length, there."""
        if self._views > 1:
            pixels = pixels.reshape(-1, pixels.shape[1] // self._views, *pixels.shape[2:])
        # in open_clip's order of operations, so that the values are its own
        values = pixels.permute(0, 3, 1, 2).float().div_(255.0).sub_(self._mean).div_(self._std).to(self._dtype)
        features: torch.Tensor = (encode_image or self.model.encode_image)(values).float()
        unit: torch.Tensor = features / features.norm(dim=-1, keepdim=True)
        return unit if self._views == 1 else unit.reshape(-1, self._views * unit.shape[1]) / self._views**0.5

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        if self._weights.config is not None:
            return self._weights.config.tokenizer()
        try:
            return open_clip.get_tokenizer(self._weights.name)
        except Exception as error:  # whatever a hub client raises where it is cut off
            raise ClassifierError(
                with_choices(
                    f"the tokenizer of {self._weights.name} is not on this machine and cannot be downloaded ({type(error).__name__})",
                    copied_from_another_machine(
                        f"python -c \"import open_clip; open_clip.get_tokenizer('{self._weights.name}')\""
                    ),
                    "use a folder in open_clip's format that also holds the tokenizer's files:  --set classifier.pretrained=FOLDER",
                )
            ) from None

    @torch.inference_mode()
    def text_matrix(self, attributes: AttributeSet) -> dict[str, FloatArray]:
        """Question -> [labels, D] float32: each row the renormalised mean of the unit vectors of a label's wordings."""
        matrix: dict[str, FloatArray] = {}
        for question in attributes.worded:
            rows = []
            for texts in attributes.prompts(question).values():
                mean = self._text_vectors(texts).mean(dim=0)
                rows.append(mean / mean.norm())
            matrix[question] = np.asarray(torch.stack(rows).cpu().numpy(), dtype=np.float32)
        return matrix

    def _text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """[texts, D] float32 of unit length. A text that was met before is not encoded again: wordings share most of theirs."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if fresh:
            features = self.model.encode_text(self._tokenizer(fresh)).float()
            self._texts |= dict(zip(fresh, features / features.norm(dim=-1, keepdim=True), strict=True))
        return torch.stack([self._texts[text] for text in texts])
