"""Every image of a run exactly once: requested, made, read, labelled."""

from __future__ import annotations

from allfour.pipeline.metrics.tallies import Tallies, status_count
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.run.metrics import Accounting


class AccountingError(AssertionError):
    """An image was lost or counted twice: a defect of allfour, never of the input."""


def accounting_of(tallies: Tallies, headline: str) -> Accounting:
    """Every image exactly once.

    requested = generated + refused + failed; generated = scored + unreadable; scored = labelled + ambiguous + no_person.
    """
    totals: dict[str, int] = {}
    for prompt in tallies.prompts:
        for label, count in prompt.labels.get(headline, {}).items():
            totals[label] = totals.get(label, 0) + count
    unreadable = totals.get(UNREADABLE, 0)
    scored = sum(totals.values()) - unreadable
    ambiguous, no_person = totals.get(AMBIGUOUS, 0), totals.get(NO_PERSON, 0)
    refused, failed = status_count(tallies, ImageStatus.REFUSED), status_count(tallies, ImageStatus.FAILED)
    result = Accounting(
        requested=sum(p.requested for p in tallies.prompts),
        generated=status_count(tallies, ImageStatus.GENERATED) + status_count(tallies, ImageStatus.UNREADABLE),
        refused=refused,
        failed=failed,
        unreadable=unreadable,
        scored=scored,
        labelled=sum(n for label, n in totals.items() if label not in {AMBIGUOUS, NO_PERSON, UNREADABLE}),
        ambiguous=ambiguous,
        no_person=no_person,
        mixed=totals.get(MIXED, 0),
    )
    check_accounting(result)
    return result


def check_accounting(a: Accounting) -> None:
    """Raise AccountingError unless the three identities of metrics.json hold."""
    identities = {
        "requested = generated + refused + failed": a.requested == a.generated + a.refused + a.failed,
        "generated = scored + unreadable": a.generated == a.scored + a.unreadable,
        "scored = labelled + ambiguous + no_person": a.scored == a.labelled + a.ambiguous + a.no_person,
    }
    broken = [name for name, holds in identities.items() if not holds]
    if broken:
        raise AccountingError(
            f"the accounting does not add up: {'; '.join(broken)}: {a.document()}. Please report this with the run folder"
        )
