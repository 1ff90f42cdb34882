"""Stage 4: a run's tables as one self-contained HTML file.

The page
    page (puts it together), pages (further ones of a large run), sections (the list of all), material (what they are made from), view (rows, tiles,
    charts), opening (the first screen), lead (the first line), estimates (the table under it), frame (words that prompts share)
Sections
    listing, panels, evidence (open ones), folded (folded ones), scenes, asked, withheld, reviewed, consensus_view, sensitivity_view, each_view
Sentences
    prose, each_prose
Other pages
    compare_page with compare_pair, compare_prose and compare_svg; study_page with study_prose; index_page; live_page; review_page
Drawing and files
    html (one file that loads nothing), svg, share_figure, spread_figure, thumbnails, tables (rows that are shown)
Other forms
    exports, model_card, croissant
"""

from allfour.pipeline.report.page import write_report
from allfour.pipeline.run.documents import ReportError

__all__ = ["ReportError", "write_report"]
