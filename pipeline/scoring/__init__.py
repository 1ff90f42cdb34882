"""Shards into embeddings, probabilities and decisions.

From images to scores
    scorer (a shard, whole), rows (images read and hashed), twins (the same bytes), encoding, groups (of images for one core), staged (batches for
    a device), people (persons found and cropped), persons (persons that a classifier describes), decisions, score_tables
What stands of it
    parts (scored shards), stored_embeddings (for relabelling), near_copies
In which precision
    precision, closeness (which decisions an error could change), settled_precision (once for a run), same_classifier (once for all ranks)
Where it runs
    engines
"""
