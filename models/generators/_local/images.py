"""What an image server's bytes become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from allfour.errors import BackendError
from allfour.models._hosted.moderation import moderation_code
from allfour.models.generators._local import http
from allfour.models.generators._openai.bytes_check import NotAnImageError, check_image
from allfour.models.generators.base import Failed, Generated, GenerationRequest, Outcome, Refused
from allfour.models.settings import Readiness

BLACK = (
    "the image is all black: the server's decoder overflowed or its filter blackened it. Try it with full precision "
    "(web UI: --no-half-vae; ComfyUI: --fp32-vae)"
)


def outcome_of(request: GenerationRequest, data: bytes, details: Mapping[str, Any]) -> Outcome:
    """An image as it came, or why it is none."""
    try:
        checked = check_image(data)
    except NotAnImageError as error:
        return Failed(request, str(error))
    if checked.colour is not None:
        return Failed(
            request, BLACK if checked.colour == "#000000" else f"the image is one colour all over ({checked.colour})"
        )
    return Generated(request, data=data, extension=checked.extension, details=dict(details))


def ensure_ready(readiness: Readiness) -> bool:
    """True; raises BackendError, in doctor's words, where a run cannot start."""
    if not readiness.ok:
        raise BackendError(
            f"{readiness.message.removesuffix('.')}. {readiness.mend}" if readiness.mend else readiness.message
        )
    return True


def attempt(request: GenerationRequest, make: Callable[[], Outcome], *, retries: int) -> Outcome:
    """`make`, again where the server did not answer, and as an outcome where it goes on so."""
    for number in range(retries + 1):
        try:
            return make()
        except http.ServerError as error:
            if error.transient and number < retries:
                http.wait(min(30.0, 2.0**number))
                continue
            if code := moderation_code(error.status, (), str(error)):
                return Refused(request, reason=str(error), code=code)
            tries = f" ({number + 1} tries)" if number else ""
            return Failed(request, f"{error}{tries}")
    raise AssertionError("unreachable")
