"""The run folder: what lies where, one process at a time, and how a run goes on."""
