"""Shards into embeddings, probabilities and decisions."""
