"""Stage 4: a run's tables as one self-contained HTML file."""

from pipeline.report.document import ReportError
from pipeline.report.page import write_report

__all__ = ["ReportError", "write_report"]
