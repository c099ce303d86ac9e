"""The experiments: one file per row of the results table."""
