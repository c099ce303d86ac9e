"""The run folder: its files, its lock, checkpoints, and how a run is loaded."""
