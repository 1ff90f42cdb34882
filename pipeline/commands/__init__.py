"""One file per verb; they alone know the order of stages.

Verbs
    audit (audit_ranks, audit_until, audit_each are its `--rank`, `--until` and `--each`), rescore, relabel (relabel_grid: `--grid`),
    report, compare, export, calibrate, review (review_draw draws the sample), study (study_money: its one sum; study_estimates: what is left),
    plan, view (view_live: runs that work), weights, init, doctor
Signatures that typer reads, beside pipeline/cli.py
    result_options, study_options, each_options; options holds what several share
Steps that verbs share, in their order
    job (what is worked on), build (backends), start (checks, and the header), unchanged (whether a backend is the same as before),
    scoring, each_tables (tables of `--each` that come along); the last two stages, `finish_run`, are in report
What is printed
    progress, summary, output (results and exit codes), errors, streams (a standard output that is lost)
"""
