"""Runs against runs, and against reference shares."""
