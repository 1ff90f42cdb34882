"""Where scoring runs: on this machine, on a Ray cluster, or as one rank of many. All give identical tables."""

from allfour.pipeline.scoring.engines.base import DEATHS, Engine, ScoringJob, Worker, share_of

__all__ = ["DEATHS", "Engine", "ScoringJob", "Worker", "engine", "share_of"]


def engine(name: str) -> Engine:
    """The engine of a name: `local` or `ray`. Raises UsageError where its package is missing."""
    if name == "local":
        from allfour.pipeline.scoring.engines.local import LocalEngine

        return LocalEngine()
    from allfour.pipeline.scoring.engines.ray_cluster import RayEngine

    return RayEngine()
