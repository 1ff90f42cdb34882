"""The standing attack: kills, full disks, hostile servers, images, folders and configs, each drawn from a seed.

`python -m tests.attack` is the short round, which a test runs too; `python -m tests.attack --long` takes minutes, and its figures
stand in docs/reliability.md.
"""
