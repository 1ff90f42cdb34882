"""Stage 4: a run's tables as one self-contained HTML file."""

from allfour.pipeline.report.page import write_report
from allfour.pipeline.run.documents import ReportError

__all__ = ["ReportError", "write_report"]
