"""Estimators, intervals and tests: pure functions over numbers, which know nothing of runs, files or images.

docs/method.md has every formula with its assumptions and source; docs/validation.md has the coverage of every
interval in simulated audits.
"""

from pipeline.statistics.correction import (
    CONTRADICTED,
    CORRECTED,
    Confusion,
    corrected_prompt_shares,
    corrected_share,
    corrected_unanimity,
    likelihood_shares,
    rogan_gladen,
)
from pipeline.statistics.coverage import CoverageWarning, coverage_warnings
from pipeline.statistics.imbalance import (
    MEASURES,
    AbsentLabel,
    Imbalance,
    Measure,
    absent_labels,
    imbalance,
    imbalance_floor,
    imbalance_scores,
    mean_share,
)
from pipeline.statistics.intervals import Interval, clopper_pearson, cluster_bootstrap, mean_over_prompts, wilson
from pipeline.statistics.unanimity import (
    Estimand,
    Resolve,
    UnanimityBounds,
    UnanimityEstimate,
    UnanimityNull,
    benjamini_hochberg,
    setwise_unanimity,
    share_tests,
    subset_unanimity,
    two_stage_bootstrap,
    unanimity,
    unanimity_bounds,
    unanimity_null,
    unanimous_label,
    unanimous_probability,
)

__all__ = [
    "CONTRADICTED",
    "CORRECTED",
    "MEASURES",
    "AbsentLabel",
    "Confusion",
    "CoverageWarning",
    "Estimand",
    "Imbalance",
    "Interval",
    "Measure",
    "Resolve",
    "UnanimityBounds",
    "UnanimityEstimate",
    "UnanimityNull",
    "absent_labels",
    "benjamini_hochberg",
    "clopper_pearson",
    "cluster_bootstrap",
    "corrected_prompt_shares",
    "corrected_share",
    "corrected_unanimity",
    "coverage_warnings",
    "imbalance",
    "imbalance_floor",
    "imbalance_scores",
    "likelihood_shares",
    "mean_over_prompts",
    "mean_share",
    "rogan_gladen",
    "setwise_unanimity",
    "share_tests",
    "subset_unanimity",
    "two_stage_bootstrap",
    "unanimity",
    "unanimity_bounds",
    "unanimity_null",
    "unanimous_label",
    "unanimous_probability",
    "wilson",
]
