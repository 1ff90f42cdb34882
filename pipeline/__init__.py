"""The audit, stage by stage: runs, tables, metrics, report. Picks models through the protocols of `models`."""
