"""A page in which networks read what is drawn, served to a browser."""

from mnist_jax.demo.corrections import Corrections
from mnist_jax.demo.desk import Desk
from mnist_jax.demo.server import Server

__all__ = ["Corrections", "Desk", "Server"]
