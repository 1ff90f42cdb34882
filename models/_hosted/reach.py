"""Why no connection came about, in words that say what to mend: a library's error says that it failed, and hides the cause."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_DEPTH = 8


def in_words(error: BaseException) -> str:
    """What was in the way, such as "the name HOST cannot be looked up"; the error itself where that is not known.

    The chain of causes is looked through: what an HTTP library raises says no more than that it did not connect.
    """
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted here ({cause.verify_message or 'no reason given'})"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection could be agreed on ({cause.reason or 'no reason given'})"
        if isinstance(cause, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused, so no server is listening there"
        if isinstance(cause, ConnectionResetError):
            return "the connection was reset"
        if isinstance(cause, TimeoutError):
            return "no answer in time"
    last = error.__cause__ or error
    return f"{type(last).__name__}: {last}" if str(last) else type(last).__name__


def mend(error: BaseException, base_url: str, *, setting: str) -> str:
    """What to do about it, for a message to a user.

    Parameters
    ----------
    setting
        Name of the address in the config, such as `generator.base_url`.
    """
    found = list(_chain(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in found):
        return "If the server's certificate comes from an authority of your own, name that authority's file: export SSL_CERT_FILE=FILE. Then repeat the command."
    if any(isinstance(cause, ssl.SSLError) for cause in found):
        return f"Check whether {setting} should begin with https or http, then repeat the command."
    proxy = proxy_of(base_url)
    by = f"the proxy in {proxy} (or exempt this host in NO_PROXY), " if proxy else ""
    return f"Check {by}the network and {setting}, then repeat the command."


def proxy_of(base_url: str) -> str | None:
    """The environment variable whose proxy stands before an address; None where none does. Its value may hold a password."""
    parts = urlsplit(base_url)
    proxies = getproxies()
    name = next((scheme for scheme in (parts.scheme, "all") if proxies.get(scheme)), None)
    if name is None or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return f"{name.upper()}_PROXY"


def unusable_proxies(base_url: str) -> str:
    """The variables whose proxies the HTTP library does not take: it looks at all of them, also at those before other addresses."""
    proxies = {scheme: value for scheme, value in getproxies().items() if scheme in ("http", "https", "all")}
    foreign = [
        scheme for scheme, value in proxies.items() if "://" in value and not value.startswith(("http://", "https://"))
    ]
    return (
        " and ".join(f"{scheme.upper()}_PROXY" for scheme in sorted(foreign)) or proxy_of(base_url) or "the environment"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_DEPTH):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__
