"""One file per verb; they alone know the order of stages."""
