"""What lies on disk: nothing else reads or writes it.

The folder
    folder (`RunFolder`: paths, header, stages), held (whose it is, and who works in it), locks, ranks (processes that share it), activity
    (whether anybody is at work), writing (atomic writes), seal (documents that vouch for themselves), program (versions and commit)
Documents, each a typed record over record
    header (run.json); metrics (metrics.json) with its parts summary, breakdown, asked, consensus, each, reviewed, until; comparison; study;
    documents reads and checks them, schema describes them
What became of every request
    outcome, journal
Tables
    columns (names and types), tables (queries), labels (the label of an image, of a set), repeats (images with the same bytes), parquet,
    database (DuckDB)
What made them
    identities
"""
