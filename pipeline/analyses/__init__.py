"""What can be laid beside a run."""
