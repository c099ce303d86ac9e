"""A page in which networks read what is drawn, served to a browser."""

from mnist_jax.demo.app import App, Network, networks_of
from mnist_jax.demo.corrections import Corrections
from mnist_jax.demo.server import Server

__all__ = ["App", "Corrections", "Network", "Server", "networks_of"]
