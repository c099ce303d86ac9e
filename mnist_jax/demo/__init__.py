"""A page to draw in, served to a browser, with the answers of networks."""

from mnist_jax.demo.app import App
from mnist_jax.demo.corrections import Corrections
from mnist_jax.demo.server import Server

__all__ = ["App", "Corrections", "Server"]
