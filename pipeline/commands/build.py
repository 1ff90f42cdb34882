"""Backends of a config, built."""

from __future__ import annotations

from allfour.errors import ConfigError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import Classifier, OpenPrecision
from allfour.models.generators.base import Generator, settle
from allfour.models.settings import named_if_missing
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.plan import Plan
from allfour.pipeline.run.folder import RunFolder
from allfour.process.collecting import collect_as_usual


def build_classifier(config: RunConfig, attributes: AttributeSet, *, half: bool = False) -> Classifier:
    """The configured classifier. Raises ClassifierError, ConfigError.

    Parameters
    ----------
    half
        Whether the run is settled on half precision, where the config leaves it open.
    """
    settings = config.classifier
    with named_if_missing(settings, f"classifier.backend={settings.backend}"):
        classifier = settings.build(attributes=attributes)
    if half and isinstance(classifier, OpenPrecision):
        classifier.settle(half=True)
    collect_as_usual()
    return classifier


def build_generator(config: RunConfig, run: RunFolder) -> Generator:
    """The configured generator. Raises BackendError, ConfigError."""
    settings = config.generator
    if settings is None:
        raise ConfigError(
            "generator is not set: an audit makes images. To score images that exist, use `allfour rescore SOURCE`"
        )
    with named_if_missing(settings, f"generator.backend={settings.backend}"):
        generator = settings.build(ledger=run.ledger_path)
    collect_as_usual()
    return generator


def planned_generator(config: RunConfig, run: RunFolder, plan: Plan) -> Generator:
    """The configured generator, settled for this plan as the run began. Raises BackendError, ConfigError."""
    generator = build_generator(config, run)
    settle(generator, images=len(plan.requests), earlier=run.header().generator)
    return generator


def price_of(config: RunConfig) -> tuple[float, str | None] | None:
    """What an image costs, with its currency; None where none is known."""
    return config.generator.price() if config.generator is not None else None
