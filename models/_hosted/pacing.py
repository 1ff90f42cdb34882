"""No more images per minute than the account allows."""

from __future__ import annotations

import threading
import time


class Pacer:
    """Spaces requests evenly so that no minute holds more than `images_per_minute` images.

    Evenly and not in bursts: providers count in windows shorter than a minute. Every attempt passes through here, the
    client's retries too, since the provider counts those as well.
    """

    def __init__(self, images_per_minute: float | None) -> None:
        self._interval = 60.0 / images_per_minute if images_per_minute else 0.0
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait(self, images: int, stop: threading.Event) -> None:
        """Block until `images` more may be asked for, or until `stop` is set."""
        if not self._interval:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + images * self._interval
        stop.wait(max(0.0, start - now))
