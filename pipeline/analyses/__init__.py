"""Analyses that a run can have beside its own figures.

Common
    base (a kept analysis, and whether it still belongs to these scores), listing (all of them), against (another run's shares)
Readers of images
    calibration and labelled_images (a labelled set), probe_fitting, second_opinion (two readers), consensus (two or more)
Settings
    sensitivity, sensitivity_grid
More images
    until, each
Packages
    comparison (runs against runs), review (people label a sample), study (many runs)
"""
