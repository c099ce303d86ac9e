"""Tests run on the CPU, wherever they run, unless JAX_PLATFORMS says otherwise."""

import os

import jax


def test_this_process_and_the_commands_use_the_platform_of_the_environment(command_env):
    assert command_env["JAX_PLATFORMS"] == os.environ["JAX_PLATFORMS"]
    assert jax.config.values["jax_platforms"] == os.environ["JAX_PLATFORMS"]
