"""Estimators, intervals and tests: pure functions over numbers, which know nothing of runs, files or images.

docs/method.md has every formula with its assumptions and source; docs/validation.md has the coverage of every
interval in simulated audits.
"""

from allfour.pipeline.statistics.confusion import Confusion
from allfour.pipeline.statistics.correction import (
    CONTRADICTED,
    CORRECTED,
    corrected_prompt_shares,
    corrected_share,
    corrected_unanimity,
)
from allfour.pipeline.statistics.coverage import CoverageWarning, comparison_coverage_warnings, coverage_warnings
from allfour.pipeline.statistics.imbalance import (
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
from allfour.pipeline.statistics.intervals import (
    Interval,
    clopper_pearson,
    mean_over_prompts,
    wilson,
)
from allfour.pipeline.statistics.paired import (
    PairedDifference,
    mcnemar,
    paired_difference,
    prompt_differences,
    sign_flip_test,
)
from allfour.pipeline.statistics.ppi import Agreement, PoweredEstimate, agreement, powered_mean
from allfour.pipeline.statistics.unanimity import (
    Resolve,
    UnanimityBounds,
    UnanimityEstimate,
    UnanimityNull,
    benjamini_hochberg,
    setwise_unanimity,
    share_tests,
    subset_unanimity,
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
    "Agreement",
    "Confusion",
    "CoverageWarning",
    "Imbalance",
    "Interval",
    "Measure",
    "PairedDifference",
    "PoweredEstimate",
    "Resolve",
    "UnanimityBounds",
    "UnanimityEstimate",
    "UnanimityNull",
    "absent_labels",
    "agreement",
    "benjamini_hochberg",
    "clopper_pearson",
    "comparison_coverage_warnings",
    "corrected_prompt_shares",
    "corrected_share",
    "corrected_unanimity",
    "coverage_warnings",
    "imbalance",
    "imbalance_floor",
    "imbalance_scores",
    "mcnemar",
    "mean_over_prompts",
    "mean_share",
    "paired_difference",
    "powered_mean",
    "prompt_differences",
    "setwise_unanimity",
    "share_tests",
    "sign_flip_test",
    "subset_unanimity",
    "unanimity",
    "unanimity_bounds",
    "unanimity_null",
    "unanimous_label",
    "unanimous_probability",
    "wilson",
]
