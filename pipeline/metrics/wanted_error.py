"""`attributes.X.max_error`: the margin that a calibration gave for it."""

from __future__ import annotations

from pathlib import Path

from allfour.errors import ConfigError, InputError
from allfour.models.attributes import AttributeSet
from allfour.pipeline.metrics.calibration import KEPT, read_calibration


def with_margins(attributes: AttributeSet, calibration: Path | None, run: Path) -> AttributeSet:
    """The same attributes, each `max_error` with its margin.

    Parameters
    ----------
    calibration
        The file that was given; without one, that of the run folder is used.
    run
        The run folder.

    Raises
    ------
    ConfigError
        There is no calibration.
    InputError
        It was not made for this error.
    """
    wanted = {name: spec.max_error for name, spec in attributes.attributes.items() if spec.max_error is not None}
    if not wanted:
        return attributes
    path = calibration if calibration is not None else run / KEPT
    name = next(iter(wanted))
    if calibration is None and not path.exists():
        raise ConfigError(
            f"attributes: max_error {wanted[name]:g} of {name} takes its margin from a calibration, and none is given. Make one with this "
            "config (`allfour calibrate LABELLED --config CONFIG --out calibration.json`), and name it with --calibration; or write a "
            "`margin` in place of max_error"
        )
    bound = read_calibration(path)["binding"]
    specs = dict(attributes.attributes)
    for name, error in wanted.items():
        made_for = bound.get("max_error", {}).get(name)
        if made_for != error:
            condition = "no max_error" if made_for is None else f"max_error {made_for:g}"
            raise InputError(
                f"--calibration {path}: it was made with {condition} of {name}, and the attributes ask for {error:g}. Run `allfour calibrate` "
                "with this config"
            )
        specs[name] = specs[name].model_copy(update={"margin": float(bound["margins"][name])})
    return attributes.model_copy(update={"attributes": specs})
