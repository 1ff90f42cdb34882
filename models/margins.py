"""What an abstention margin means for the model at hand: on the logit scale, and in cosine for a CLIP's words."""

from __future__ import annotations

import math

from allfour.models.attributes import AttributeSpec


def least_lead(spec: AttributeSpec) -> float:
    """The least log(p1 / p2), of the classifier's own probabilities, that an image with a label has; 0 where every image gets one.

    A difference p1 - p2 = m of two labels is a ratio of (1 + m) / (1 - m); of more labels, at least that. A temperature divides the logits.
    """
    on_logit = math.log((1 + spec.margin) / (1 - spec.margin)) if spec.margin_logit is None else spec.margin_logit
    return on_logit * (spec.temperature or 1.0)


def margin_meaning(name: str, spec: AttributeSpec, *, logit_scale: float | None) -> str:
    """`gender: margin 0.2, a lead of 0.405 on the logit, which is 0.0292 in cosine at this model's logit scale of 13.9`."""
    lead = least_lead(spec)
    if not lead:
        return f"{name}: no margin, every image gets its likeliest label"
    given = f"margin {spec.margin:.3g}" if spec.margin_logit is None else f"margin_logit {spec.margin_logit:.3g}"
    wanted = f" (for an error of at most {spec.max_error:.3g})" if spec.max_error is not None else ""
    heat = f" at temperature {spec.temperature:.3g}" if spec.temperature is not None else ""
    least = "at least " if len(spec.labels) > 2 and spec.margin_logit is None else ""
    sentence = f"{name}: {given}{wanted}{heat}, {least}a lead of {lead:.3g} on the logit"
    if logit_scale is None:
        return sentence
    return f"{sentence}, which is {lead / logit_scale:.3g} in cosine at this model's logit scale of {logit_scale:.3g}"
