"""Estimators, intervals and tests: pure functions over numbers, which know nothing of runs, files or images.

docs/method.md has every formula with its assumptions and source; docs/validation.md has the coverage of every
interval in simulated audits.
"""

from allfour.pipeline.statistics.added_variance import square_and_add
from allfour.pipeline.statistics.bounded_difference import difference_from_zero
from allfour.pipeline.statistics.bounded_mean import bounded_mean
from allfour.pipeline.statistics.calibration_fit import CalibrationFit, calibration_fit
from allfour.pipeline.statistics.confusion import Confusion
from allfour.pipeline.statistics.corrected_difference import corrected_difference, error_that_explains
from allfour.pipeline.statistics.correction import (
    CONTRADICTED,
    CORRECTED,
    corrected_prompt_shares,
    corrected_share,
    corrected_unanimity,
)
from allfour.pipeline.statistics.coverage import CoverageWarning, comparison_coverage_warnings, coverage_warnings
from allfour.pipeline.statistics.difference import DifferenceBounds, UnanimityDifference, unanimity_difference
from allfour.pipeline.statistics.group_mix import GroupMix, group_mix
from allfour.pipeline.statistics.homogeneity import group_homogeneity
from allfour.pipeline.statistics.identification import (
    IdentifiedInterval,
    identified_mean,
    identified_share,
    identified_unanimity,
)
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
from allfour.pipeline.statistics.labelled_error import SPREAD_SHOWN, MeasuredError, measured_error, recentred
from allfour.pipeline.statistics.margins import MarginChoice, margin_for_error
from allfour.pipeline.statistics.nulls import (
    Amplification,
    ReferenceDistance,
    amplification,
    at_least,
    distance_from_reference,
    null_of_shares,
    reference_distance,
)
from allfour.pipeline.statistics.paired import (
    PairedDifference,
    holm,
    mcnemar,
    paired_difference,
    prompt_differences,
    sign_flip_test,
)
from allfour.pipeline.statistics.paired_means import Difference, mean_difference
from allfour.pipeline.statistics.ppi import Agreement, PoweredEstimate, agreement, powered_mean
from allfour.pipeline.statistics.ranking import RankInterval, alike_groups, rank_intervals
from allfour.pipeline.statistics.rate_difference import rate_difference
from allfour.pipeline.statistics.rates import rate_over_prompts
from allfour.pipeline.statistics.read_images import ReadImages
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
from allfour.pipeline.statistics.varying_error import (
    DEFAULT_SPREAD,
    SpreadEffect,
    group_spread,
    spread_biases,
    spread_effects,
)

__all__ = [
    "CONTRADICTED",
    "CORRECTED",
    "DEFAULT_SPREAD",
    "MEASURES",
    "SPREAD_SHOWN",
    "AbsentLabel",
    "Agreement",
    "Amplification",
    "CalibrationFit",
    "Confusion",
    "CoverageWarning",
    "Difference",
    "DifferenceBounds",
    "GroupMix",
    "IdentifiedInterval",
    "Imbalance",
    "Interval",
    "MarginChoice",
    "Measure",
    "MeasuredError",
    "PairedDifference",
    "PoweredEstimate",
    "RankInterval",
    "ReadImages",
    "ReferenceDistance",
    "Resolve",
    "SpreadEffect",
    "UnanimityBounds",
    "UnanimityDifference",
    "UnanimityEstimate",
    "UnanimityNull",
    "absent_labels",
    "agreement",
    "alike_groups",
    "amplification",
    "at_least",
    "benjamini_hochberg",
    "bounded_mean",
    "calibration_fit",
    "clopper_pearson",
    "comparison_coverage_warnings",
    "corrected_difference",
    "corrected_prompt_shares",
    "corrected_share",
    "corrected_unanimity",
    "coverage_warnings",
    "difference_from_zero",
    "distance_from_reference",
    "error_that_explains",
    "group_homogeneity",
    "group_mix",
    "group_spread",
    "holm",
    "identified_mean",
    "identified_share",
    "identified_unanimity",
    "imbalance",
    "imbalance_floor",
    "imbalance_scores",
    "margin_for_error",
    "mcnemar",
    "mean_difference",
    "mean_over_prompts",
    "mean_share",
    "measured_error",
    "null_of_shares",
    "paired_difference",
    "powered_mean",
    "prompt_differences",
    "rank_intervals",
    "rate_difference",
    "rate_over_prompts",
    "recentred",
    "reference_distance",
    "setwise_unanimity",
    "share_tests",
    "sign_flip_test",
    "spread_biases",
    "spread_effects",
    "square_and_add",
    "subset_unanimity",
    "unanimity",
    "unanimity_bounds",
    "unanimity_difference",
    "unanimity_null",
    "unanimous_label",
    "unanimous_probability",
    "wilson",
]
