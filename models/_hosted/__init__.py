"""Asking a hosted API: the official client, pacing, deadlines, keys, errors and the money ledger of every backend that does."""
