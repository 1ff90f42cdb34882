"""Fetch an image from the address a server answered with. The address is hostile until checked.

Only http and https; no address inside this machine or network unless the image server itself is there; the name is
looked up once and the connection goes to the very address that was checked, so a name that answers differently the
second time gains nothing; every redirect is checked the same way; size, time and number of redirects are bounded; no
key and no cookie is sent.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import threading
from collections.abc import Callable
from urllib.parse import quote, urljoin, urlsplit

from allfour.models._hosted.reach import in_words
from allfour.models._hosted.wire import exchange
from allfour.models.generators._openai.bytes_check import MAX_IMAGE_BYTES

MAX_REDIRECTS = 3
TRIES = 3
"""The client's own retries cover the API alone, and this image is paid for: one dropped connection must not lose it."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
"""RFC 8215: where it leads is each network's own choice, this machine included."""
_COMPATIBLE = ipaddress.IPv6Network("::/96")
"""Withdrawn by RFC 4291, and still taken for the IPv4 address in it by some systems."""
_SITE = ipaddress.IPv6Network("fec0::/10")
"""Private addresses, until RFC 3879."""
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")
"""RFC 2765: the IPv4 address in it, by way of a translator on this network."""
_ROUTED = ipaddress.IPv6Network("5f00::/16")
"""RFC 9602: segments of a network's own routing."""
_EXAMPLES = ipaddress.IPv6Network("3fff::/20")
"""RFC 9637: for documents alone."""
_NEVER_OUTSIDE = (_COMPATIBLE, _SITE, _LOCAL_NAT64, _TRANSLATED, _ROUTED, _EXAMPLES)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]


class DownloadError(Exception):
    """The image could not be fetched; the message says why, without the address (it may hold a signed token)."""


class _TransientError(DownloadError):
    """Worth another try."""


def resolve(host: str, port: int) -> list[str]:
    """IP addresses of `host`, in the system's order of preference."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address inside an IPv6 one that leads to it (mapped, compatible, 6to4, NAT64), else `address` itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and int(address) > 1 and (address in _NAT64 or address in _COMPATIBLE):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return inner
    return address


def is_public(address: IPAddress) -> bool:
    """Whether an address is outside of this machine and network for certain."""
    if isinstance(address, ipaddress.IPv6Address) and any(address in net for net in _NEVER_OUTSIDE):
        return False
    inner = embedded(address)
    return inner.is_global and not inner.is_multicast


def is_inside(host: str, port: int, *, resolver: Resolve = resolve) -> bool:
    """Whether every address of `host` is on this machine or network. False where it cannot be looked up."""
    try:
        addresses = [ipaddress.ip_address(a.partition("%")[0]) for a in resolver(host, port)]
    except (OSError, ValueError):
        return False
    return bool(addresses) and not any(map(is_public, addresses))


class Downloader:
    """Fetches images by address.

    Parameters
    ----------
    allow_inside
        Whether addresses on this machine and network may be fetched, since the image server is there.
        Link-local addresses never may: cloud machines keep their credentials behind one.
    timeout
        Seconds for one whole fetch, redirects included.
    """

    def __init__(self, *, allow_inside: bool, timeout: float, resolver: Resolve = resolve) -> None:
        self._allow_inside = allow_inside
        self._timeout = timeout
        self._resolve = resolver

    def fetch(self, url: str, stop: threading.Event) -> bytes:
        """Bytes behind `url`.

        Raises
        ------
        DownloadError
            The address is not allowed, or nothing usable came after three tries.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return self._follow(url)
            except _TransientError as error:
                if attempt == TRIES:
                    raise DownloadError(f"{error} ({TRIES} tries)") from None
                stop.wait(0.25 * attempt)
        raise AssertionError("unreachable")

    def _follow(self, url: str) -> bytes:
        secure = False
        for _ in range(MAX_REDIRECTS + 1):
            try:
                parts = urlsplit(url)
                host, port = parts.hostname, parts.port
            except ValueError:
                raise DownloadError("the image's address is not a URL") from None
            if parts.scheme not in ("http", "https") or not host:
                raise DownloadError(
                    f"the image's address is not http(s) but {(parts.scheme or 'without a scheme')[:20]!r}"
                )
            if secure and parts.scheme == "http":
                raise DownloadError("the image's address redirects from https to http")
            secure = parts.scheme == "https"
            port = port or (443 if secure else 80)
            target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
                "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?") if parts.query else ""
            )
            result = self._get(self._checked(host, port), host, port, target, secure=secure)
            if isinstance(result, bytes):
                return result
            url = joined(url, result)
        raise DownloadError(f"the image's address redirects more than {MAX_REDIRECTS} times")

    def _checked(self, host: str, port: int) -> str:
        """One address of `host`, after checking all of them: a name with one address inside is not trusted at all."""
        try:
            texts = self._resolve(host, port)
            addresses = [ipaddress.ip_address(t.partition("%")[0]) for t in texts]
        except (OSError, ValueError, UnicodeError):
            raise _TransientError(f"the image's host {host[:100]!r} cannot be resolved") from None
        if not addresses:
            raise _TransientError(f"the image's host {host[:100]!r} has no address")
        for address in addresses:
            inner = embedded(address)
            inside_ok = self._allow_inside and not (
                inner.is_link_local or inner.is_multicast or inner.is_unspecified or inner in _LOCAL_NAT64
            )
            if not (is_public(address) or inside_ok):
                raise DownloadError(
                    f"the image's host {host[:100]!r} is at {address}, inside this machine or network, so the image was not fetched"
                )
        return texts[0]

    def _get(self, address: str, host: str, port: int, target: str, *, secure: bool) -> bytes | str:
        """Body of one GET, or the address it redirects to."""
        try:
            sock = connect(address, port, self._timeout)
        except OSError as error:
            raise _TransientError(f"no connection to the image's host: {in_words(error)}") from None
        try:
            with exchange(sock, host, port, secure=secure, seconds=self._timeout) as wire:
                response = wire.ask("GET", target, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
                if response.status in _REDIRECTS and (location := response.getheader("Location")):
                    return location
                if response.status != 200:
                    kind = _TransientError if response.status >= 500 or response.status == 429 else DownloadError
                    raise kind(f"the image's host answered HTTP {response.status}")
                declared = response.getheader("Content-Length") or ""
                if declared.isascii() and declared.isdigit() and int(declared[:20]) > MAX_IMAGE_BYTES:
                    raise DownloadError(f"the image is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
                data = wire.read(response, MAX_IMAGE_BYTES + 1)
                if len(data) > MAX_IMAGE_BYTES:
                    raise DownloadError(f"the image is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
                if response.length:  # bytes still owed: a body cut short does not raise on a bounded read
                    raise _TransientError("the image's download was cut short")
                return data
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _TransientError(f"the image's download broke off: {in_words(error)}") from None


def joined(base: str, url: str) -> str:
    """`url` as it is meant beside `base`. Raises DownloadError for what is not an address."""
    try:
        return urljoin(base, url)
    except ValueError:
        raise DownloadError("the image's address is not a URL") from None


def connect(address: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection to an IP address (no look-up happens here)."""
    return socket.create_connection((address, port), timeout=timeout)
