"""Can this run start? Asked before the first order is paid for, and by `allfour doctor`."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allfour.border import read_json
from allfour.models._hosted import reach
from allfour.models._hosted.connection import Connection
from allfour.models._hosted.errors import read_error
from allfour.models._hosted.secrets import Scrubber
from allfour.models.settings import Readiness

_NAMED_AT_MOST = 12
_NO_LISTING = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True)
class Preflight:
    """Whether a run can start."""

    ok: bool
    message: str
    """What was found, in one sentence."""
    mend: str | None = None
    """What to do about it, where `ok` is false."""
    served_models: tuple[str, ...] = ()
    """Model ids the server lists (all of them; empty where it does not say)."""
    warnings: tuple[str, ...] = ()
    """What may go wrong later though the run can start."""

    @property
    def readiness(self) -> Readiness:
        return Readiness(self.ok, self.message, self.mend, self.warnings)

    def error(self) -> str:
        return f"{self.message.removesuffix('.')}. {self.mend}" if self.mend else self.message


def missing_model(settings: Connection, served: Sequence[str], *, reported: str | None = None) -> Preflight:
    """The one error for a model that is unknown or withdrawn."""
    gone = settings.withdrawn_on
    if gone:
        message = f"{settings.model} was withdrawn by its provider on {gone} and is no longer served."
    else:
        message = f"{settings.model!r} is not served at {settings.base_url}" + (f" ({reported})." if reported else ".")
    return Preflight(False, message, _mend(settings, served), tuple(served))


def _mend(settings: Connection, served: Sequence[str]) -> str:
    service, wanted = settings.service, settings.service.setting("model")
    # Without the server's own list: what the client knows of the provider's.
    source, listed = ("Served now", served) if served else ("Models the openai package knows", service.known())
    fitting = [m for m in listed if service.likely is None or service.likely.search(m)] or list(listed)
    if not fitting:
        return f"Set {wanted} to a model that the server has. {service.hint}".rstrip()
    longer = [m for m in fitting if m.startswith(settings.model)]  # a name without its variant or date
    close = longer[:1] or difflib.get_close_matches(settings.model, fitting, n=1, cutoff=0.5)
    named = [*close, *(m for m in fitting if m not in close)][:_NAMED_AT_MOST]
    more = f" and {len(fitting) - len(named)} more" if len(fitting) > len(named) else ""
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"{source}: {', '.join(named)}{more}. Set {wanted} to one of them{guess}. {service.hint}".rstrip()


def check_models(client: Any, settings: Connection, scrub: Scrubber) -> Preflight:
    """Ask the server which models it serves, and judge the one that is set.

    A server that lists no models does not block: it is asked all the same, with a warning. Nor does one that is known
    to list other names than it takes, and none with `preflight: warn`.
    """
    if settings.preflight == "off":
        return (
            missing_model(settings, ()) if settings.withdrawn_on else Preflight(True, "not checked (preflight: off).")
        )
    found = _ask(client, settings, scrub)
    lenient = settings.preflight == "warn" or settings.lists_otherwise
    # A list that lacks the name may be of other names. A key that is not taken, or no connection, is no matter of lists.
    if found.ok or not found.served_models or not lenient or settings.withdrawn_on:
        return found
    service = settings.service
    warning = f"{settings.model!r} is not in the server's list of models, but that list may use other names. Whether the model is served will show with the first {service.order}. Listed: {', '.join(found.served_models[:_NAMED_AT_MOST])}"
    return Preflight(True, f"{settings.base_url} answers.", None, found.served_models, (*found.warnings, warning))


def _ask(client: Any, settings: Connection, scrub: Scrubber) -> Preflight:
    import openai

    # Seconds, not minutes: a doctor that waits out five retries is of no use.
    quick = client.with_options(max_retries=min(1, settings.max_retries), timeout=min(15.0, settings.timeout))
    try:
        raw = quick.models.with_raw_response.list()
        listed = _listed(read_json(raw.http_response.content))
    except openai.APIStatusError as error:
        return _listing_failed(error, settings, scrub)
    except openai.APIConnectionError as error:
        return Preflight(
            False,
            f"No connection to {settings.base_url}: {scrub(reach.in_words(error))}.",
            reach.mend(error, settings.base_url, setting=f"{settings.service.block}.base_url"),
        )
    except Exception as error:
        listed = None
        reason = type(error).__name__
    else:
        reason = "the answer holds no list"
    if listed is None:
        return _go_on(settings, f"The server's list of models cannot be read ({scrub(reason)}).")
    served = tuple(scrub(str(entry["id"]), limit=120) for entry in listed)
    entry = next((e for e in listed if same_model(e["id"], settings.model)), None) or _single(quick, settings.model)
    if entry is None:
        return missing_model(settings, served)
    shutdown = _date(entry.get("shutdown_date"))
    today = dt.datetime.now(dt.UTC).date()
    if shutdown and shutdown <= today:
        return Preflight(
            False,
            f"{settings.model} was shut down on {shutdown}, according to the server.",
            _mend(settings, [m for m in served if m != settings.model]),
            served,
        )
    warnings = (f"{settings.model} will be shut down on {shutdown}.",) if shutdown else ()
    return Preflight(True, f"{settings.model} is served at {settings.base_url}.", None, served, warnings)


def _listing_failed(error: Any, settings: Connection, scrub: Scrubber) -> Preflight:
    status = int(error.status_code)
    content_type = error.response.headers.get("content-type", "")
    reported = scrub(read_error(error.response.content, content_type).message)
    if status == 401:
        return Preflight(
            False,
            f"The server does not accept the API key (HTTP 401: {reported}).",
            f"Set a valid key: export {settings.api_key_env or 'OPENAI_API_KEY'}=...",
        )
    if status in _NO_LISTING:
        return _go_on(settings, f"The server offers no list of models (HTTP {status}).")
    # 403 among them: keys can be allowed to use models and yet not to list them.
    return _go_on(settings, f"The server does not list its models (HTTP {status}: {reported}).")


def _go_on(settings: Connection, warning: str) -> Preflight:
    if settings.withdrawn_on:
        return missing_model(settings, ())
    return Preflight(
        True,
        f"{settings.base_url} answers.",
        warnings=(f"{warning} Whether it serves {settings.model} will show with the first {settings.service.order}.",),
    )


def _listed(parsed: object) -> list[Mapping[str, Any]] | None:
    entries = parsed.get("data") if isinstance(parsed, Mapping) else parsed
    if not isinstance(entries, list):
        return None
    found = [e for e in entries if isinstance(e, Mapping) and isinstance(e.get("id"), str)]
    return found or None


def _single(client: Any, model: str) -> Mapping[str, Any] | None:
    """The model's own entry: some servers list a part of what they serve."""
    try:
        parsed = read_json(client.models.with_raw_response.retrieve(model).http_response.content)
    except Exception:
        return None
    return parsed if isinstance(parsed, Mapping) and same_model(parsed.get("id"), model) else None


def same_model(listed: object, model: str) -> bool:
    """Whether a listed id is a model's, with or without the prefix under which some servers list."""
    return isinstance(listed, str) and listed.removeprefix("models/") == model.removeprefix("models/")


def _date(value: object) -> dt.date | None:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return dt.datetime.fromtimestamp(value, dt.UTC).date()
        if isinstance(value, str):
            return dt.date.fromisoformat(value.strip()[:10])
    except (ValueError, OverflowError, OSError):
        pass
    return None
