"""Config -> the list of images to make: prompt x index x seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from allfour.errors import ConfigError
from allfour.models.generators.base import GenerationRequest, image_seed
from allfour.pipeline.config import PromptSet, RunConfig, load_prompts
from allfour.pipeline.run.ranks import check_rank


@dataclass(frozen=True, slots=True)
class Plan:
    """Every image that the run asks for, prompt after prompt."""

    prompts: PromptSet
    requests: tuple[GenerationRequest, ...]

    def share(self, *, rank: int, world_size: int, set_size: int) -> Plan:
        """A rank's part of the plan: whole sets, dealt out in turn, so that the parts differ by a set at most.

        Raises
        ------
        ConfigError
            There is no such rank.
        """
        check_rank(rank, world_size)
        sets: dict[tuple[str, int], int] = {}
        mine = tuple(
            request
            for request in self.requests
            if sets.setdefault((request.prompt_id, request.index // set_size), len(sets)) % world_size == rank
        )
        return replace(self, requests=mine)


def first_look(requests: tuple[GenerationRequest, ...], *, images: int, set_size: int) -> tuple[GenerationRequest, ...]:
    """The requests of a first look: whole sets, the first of every prompt before the second of any, until there are `images`."""
    order = {prompt_id: place for place, prompt_id in enumerate(dict.fromkeys(r.prompt_id for r in requests))}
    ranked = sorted(requests, key=lambda r: (r.index // set_size, order[r.prompt_id], r.index))
    kept = {r.key for r in ranked[: -(-images // set_size) * set_size]}
    return tuple(r for r in requests if r.key in kept)


def make_plan(config: RunConfig, *, limit: int | None = None) -> Plan:
    """The plan of an audit.

    Parameters
    ----------
    limit
        Images to begin with, rounded up to whole sets; None: all.

    Raises
    ------
    ConfigError
        No prompt set is named, or fewer images per prompt than a set needs.
    """
    if config.prompts.file is None:
        raise ConfigError(
            "prompts.file is not set: an audit needs a prompt set, such as configs/prompts/bolukbasi-extremes.yaml"
        )
    if config.prompts.images_per_prompt < config.prompts.set_size:
        raise ConfigError(
            f"prompts.images_per_prompt is {config.prompts.images_per_prompt}, and a set needs prompts.set_size = "
            f"{config.prompts.set_size} images: ask for more images, or set prompts.set_size"
        )
    prompts = load_prompts(config.prompts.file)
    requests = tuple(
        GenerationRequest(
            prompt_id=prompt.key, index=index, prompt=prompt.text, seed=image_seed(config.seed, prompt.key, index)
        )
        for prompt in prompts.prompts
        for index in range(config.prompts.images_per_prompt)
    )
    if limit is not None:
        requests = first_look(requests, images=limit, set_size=config.prompts.set_size)
    return Plan(prompts=prompts, requests=requests)
