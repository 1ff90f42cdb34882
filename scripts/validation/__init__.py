"""Simulated audits with known truth: the parts of scripts/validate_statistics.py."""
