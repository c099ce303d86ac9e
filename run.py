"""Train and test the network that a config describes, as `mnist-jax train` does."""

from mnist_jax import commands

if __name__ == "__main__":
    commands.exit_on_interrupt()  # before slow imports
    from mnist_jax.commands import cli, train

    cli.run(train)
