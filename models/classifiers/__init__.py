"""Images into scores: one file per backend, and beside it a folder of its parts where it has several.

base
    The protocols: an encoder of embeddings with its head, a reader of persons, one that is asked over a network.
clip, linear_probe, face, judge, recorded
    Backends. Settings that are read without a backend's packages: clip_settings, linear_probe_settings; weights and configs of a CLIP:
    clip_weights, clip_config; several views of one image: views.
"""
