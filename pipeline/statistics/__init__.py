"""Estimators, intervals and tests: pure functions over numbers, which know nothing of runs, files or images.

docs/method.md has every formula with its assumptions and source; docs/validation.md has the coverage of every
interval in simulated audits.
"""

from pipeline.statistics.imbalance import (
    MEASURES,
    AbsentLabel,
    Imbalance,
    Measure,
    absent_labels,
    imbalance,
    imbalance_floor,
    imbalance_scores,
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
    "MEASURES",
    "AbsentLabel",
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
    "imbalance",
    "imbalance_floor",
    "imbalance_scores",
    "mean_over_prompts",
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
