"""Property tests here are timed by the suite's own limit: on a busy machine one example may take long."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None, derandomize=True)
settings.load_profile("untimed")
