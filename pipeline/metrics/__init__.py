"""Decisions into figures."""
