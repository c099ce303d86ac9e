"""What computes: devices, the processes that share them, and what they are told.

Nothing is imported here: `memory` must run before JAX is.
"""
