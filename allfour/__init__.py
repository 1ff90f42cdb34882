"""Measures demographic bias of text-to-image models without human labelling, with honest uncertainty."""
