"""Decisions into figures.

The whole
    compute (metrics.json from the tables), tallies (counts per prompt), whole_sets (all sets of a prompt), set_table (counts over sets), chance (what they are measured against)
The first line
    headline, headline_sets, included (wording and classifier in its interval)
The classifier's error
    calibration, calibration_doubt, corrected, error_spread, wanted_error (`max_error`)
What is said of prompts and of the rest
    prompt_entries, breakdowns (groups and attributes), intersections, scenes, asked_for, withheld (refused, failed, rewritten), accounting, notes
Questions with an answer
    gate and gate_schema (`--fail-if`), stopping (`--until`), each_prompt (`--each`)
"""
