"""The parts of the backend `judge`: its question, its settings, what it asks and how answers are read."""
