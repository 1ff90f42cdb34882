"""The errors that a user can mend. Each says what is wrong, where, and how to mend it; the command ends with code 2."""

from __future__ import annotations


class AllfourError(Exception):
    """Base of every error that is about what allfour was given, and not about allfour."""


class ConfigError(AllfourError, ValueError):
    """Wrong configuration or usage."""


class RunFolderError(ConfigError):
    """A run folder that cannot be read, written, or used for what was asked."""


class ArchiveError(AllfourError, RuntimeError):
    """Images that exist cannot be read as they lie."""


class ClassifierError(AllfourError, RuntimeError):
    """A classifier cannot be built or used."""


class BackendError(AllfourError, RuntimeError):
    """A generator cannot be built or used."""
