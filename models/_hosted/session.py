"""A client for one API, with its key out of everybody's sight, and the question whether a run can start."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allfour.errors import BackendError
from allfour.models._hosted.connection import Connection
from allfour.models._hosted.errors import verdict_of
from allfour.models._hosted.ledger import Ledger
from allfour.models._hosted.pacing import Pacer
from allfour.models._hosted.preflight import Preflight, check_models, missing_model
from allfour.models._hosted.reach import unusable_proxies
from allfour.models._hosted.secrets import Scrubber, keep_out_of_logs, read_headers, read_key

if TYPE_CHECKING:
    from allfour.models._hosted.client import Verdicts

Check = Callable[[Any, Connection, Scrubber], Preflight]
_NO_CLIENT = "the openai package is missing: pip install 'openai>=3.54'"


@dataclass(frozen=True, slots=True)
class Session:
    """The client, and what reads errors."""

    client: Any
    scrub: Scrubber
    """Keeps the key out of messages."""
    verdicts: Verdicts


def open_session(
    settings: Connection, *, ledger: Ledger, stop: threading.Event, own_fields: frozenset[str] = frozenset()
) -> Session:
    """Connect. The key itself stays in here: a local variable of a longer-lived frame would show in tracebacks that print those.

    Parameters
    ----------
    own_fields
        Fields of the request that come from the settings.

    Raises
    ------
    BackendError
        No key though one is needed, or no `openai` package.
    """
    s = settings
    key = read_key(
        s.api_key_env, required=not s.host_is_local_name and s.api_key_env is not None, block=s.service.block
    )
    headers, secrets = read_headers(s.extra_headers)
    scrub = Scrubber(key, *secrets)
    verdicts = functools.partial(
        verdict_of, scrub=scrub, service=s.service, key_env=s.api_key_env, own_fields=own_fields
    )
    try:
        from allfour.models._hosted.client import build_client
    except ImportError as error:
        raise BackendError(f"{s.service.setting('backend')}: {_NO_CLIENT} ({error})") from None
    keep_out_of_logs(scrub)  # its packages are imported now
    try:
        client = build_client(
            s, key, headers=headers, ledger=ledger, pacer=Pacer(s.per_minute), stop=stop, verdicts=verdicts
        )
    except (
        ImportError,
        ValueError,
    ):  # the HTTP library's words name another package, and may hold the proxy's password
        raise BackendError(
            f"{s.service.setting('base_url')}: the proxy in {unusable_proxies(s.base_url)} cannot be used. For an address that begins with socks5://, run pip install socksio; any other must begin with http:// or https://. Or unset it, or add this host to NO_PROXY."
        ) from None
    return Session(client, scrub, verdicts)


def preflight(settings: Connection, *, check: Check = check_models) -> Preflight:
    """Whether a run can start: package, key, server, model. Costs nothing and takes seconds; never raises."""
    ledger = Ledger(None, price_nano=0, max_nano=None)  # nothing is asked for, so nothing is booked
    try:
        session = open_session(settings, ledger=ledger, stop=threading.Event())
    except BackendError as error:
        ledger.close()
        if settings.withdrawn_on:  # a new key or package would not bring the model back
            return missing_model(settings, ())
        return Preflight(False, str(error))
    try:
        return check(session.client, settings, session.scrub)
    finally:
        session.client.close()
        ledger.close()
