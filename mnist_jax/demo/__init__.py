"""A page in which networks read what is drawn, served to a browser."""

from mnist_jax.demo.app import App
from mnist_jax.demo.corrections import Corrections
from mnist_jax.demo.server import Server

__all__ = ["Corrections", "App", "Server"]
