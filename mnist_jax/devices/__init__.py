"""Devices, processes that share them, and settings of the compiler and of malloc.

Nothing is imported here, since `memory` must run before JAX is imported.
"""
