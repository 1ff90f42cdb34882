"""What transformers says of the tensors that it looked for and did not find: it goes on with random ones in their place."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

_LOGGERS = ("transformers.modeling_utils", "transformers.utils.loading_report")
_REPORT = "LOAD REPORT"
_MISSING = re.compile(r"^(?:\x1b\[[\d;]*m)*([^\s|]+)\s*\|[^|\n]*\bMISSING\b", re.MULTILINE)
_SEQUENCE = re.compile(r"\x1b\[[\d;]*m")


@contextlib.contextmanager
def missing_tensors() -> Iterator[list[str]]:
    """The names of tensors, of whichever network, that a load within it did not find; the report itself is not shown.

    transformers tells them in its log alone where it loads a part of a pipeline.
    """
    found: list[str] = []

    def look(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if _REPORT not in text:
            return True
        found.extend(_MISSING.findall(_SEQUENCE.sub("", text)))
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addFilter(look)
        if not logger.isEnabledFor(logging.WARNING):
            logger.setLevel(logging.WARNING)
    try:
        yield found
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeFilter(look)
            logger.setLevel(level)
