"""The errors that a user can mend. Each says what is wrong, where, and how to mend it; the command ends with code 2."""

from __future__ import annotations


class AllfourError(Exception):
    """Base of every error that is about what allfour was given, and not about allfour."""


def with_choices(problem: str, *ways: str) -> str:
    """A message whose problem can be mended in several ways: a line for the problem, then an indented line for each way."""
    return "\n".join([f"{problem}. Do one of these:", *(f"  - {way}" for way in ways)])


class ConfigError(AllfourError, ValueError):
    """A config, or a file that it names (prompts, attributes, a reference), is wrong or asks for what cannot be."""


class UsageError(AllfourError, ValueError):
    """An option of a command is wrong, or does not go with another one."""


class InputError(AllfourError, ValueError):
    """A file that a command was given beside its config (answers, a calibration, labelled images) cannot be used."""


class RunFolderError(AllfourError, ValueError):
    """A run folder cannot be read, written, or used for what was asked."""


class ArchiveError(AllfourError, RuntimeError):
    """Images that exist cannot be read as they lie."""


class ClassifierError(AllfourError, RuntimeError):
    """A classifier cannot be built or used."""


class BackendError(AllfourError, RuntimeError):
    """A generator cannot be built or used."""


class MaxCostError(BackendError):
    """`max_cost` leaves no room for another image; every outcome that was paid for came before."""
