"""Where the tests' files lie."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
