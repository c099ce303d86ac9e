"""Handwritten digit recognition in JAX and Flax."""
