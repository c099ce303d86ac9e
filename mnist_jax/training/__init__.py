"""Training: state, step, optimizer, monitors and the loop over epochs.

Knows no data source, no network by name and no picture.
"""
