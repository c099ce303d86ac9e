"""Devices: which ones share a batch, where arrays lie, what is compiled for them.

A step is written for one batch. Two ways spread it over devices, with the same result:

- `jit` over a mesh with the one axis `data`: XLA sees the whole step and divides it.
  The places of a batch's images are divided among the devices, all else lies on each.
- `jax.pmap`: the step runs once for each device, on its share of the batch, and
  `mnist_jax.devices.shards` puts together what belongs together.

Several processes, each with its own devices, are one mesh, or one map.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int32

from mnist_jax.devices import shards
from mnist_jax.devices.compiler import compiler_options
from mnist_jax.errors import UserError
from mnist_jax.typing import Tree

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Devices:
    """Some devices that share every batch; the same number of each process.

    Attributes:
        devices: JAX's, in the order in which they take their shares.
        way: "jit" or "pmap".
    """

    devices: tuple[Any, ...]
    way: str = "jit"

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.devices)

    @property
    def must_wait(self) -> bool:
        """Whether a call has to be over before the next is made.

        Several CPU devices of one process can wait for each other for ever, if steps
        are queued: they share the threads that their all-reduces block.
        """
        return self.count > 1 and self.devices[0].platform == "cpu"

    def replicate(self, tree: Tree) -> Tree:
        """Put arrays on every device, whole.

        Args:
            tree: of arrays, the same in all processes.
        """
        return jax.tree.map(lambda leaf: _put(leaf, self._everywhere), tree)

    def split(self, rows: Int32[Array | np.ndarray, "*calls batch"]) -> Any:
        """Divide the last axis, a batch's, among the devices.

        Returns:
            What a function of `compile` takes as `rows`.
        """
        if self.way == "jit":
            spec = PartitionSpec(*[None] * (rows.ndim - 1), shards.AXIS)
            return _put(rows, NamedSharding(self._mesh, spec))
        every = np.asarray(rows).reshape(*rows.shape[:-1], self.count, -1)
        own = [d.process_index == jax.process_index() for d in self.devices]
        return np.moveaxis(every, -2, 0)[own]

    def compile(
        self,
        function: Callable[..., Tree],
        arguments: Sequence[Any],
        *,
        rows: int,
        donate: bool = False,
    ) -> Callable[..., Tree]:
        """Compile a function that the devices share.

        Args:
            function: what it returns is the same on every device: means over the batch,
                or batches that `shards.gather` has put together.
            arguments: as it will be called with: all of `replicate`, one of `split`.
            rows: which argument is that of `split`.
            donate: whether the buffers of the first argument may be used for what is
                returned. (Under `pmap` they are not.)
        """
        if self.way == "jit":
            jitted = jax.jit(
                function,
                out_shardings=self._everywhere,
                donate_argnums=(0,) if donate else (),
                compiler_options=compiler_options(),
            )
            return jitted.lower(*arguments).compile()

        def together(others: tuple[Any, ...], own: Array) -> Tree:
            return function(*others[:rows], own, *others[rows:])

        def apart(arguments: Sequence[Any]) -> tuple[tuple[Any, ...], Any]:
            return (*arguments[:rows], *arguments[rows + 1 :]), arguments[rows]

        mapped = jax.pmap(
            together,
            axis_name=shards.AXIS,
            in_axes=(None, 0),
            out_axes=None,
            devices=self.devices,
        )
        compiled = mapped.lower(*apart(arguments)).compile()
        return lambda *arguments: compiled(*apart(arguments))

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (shards.AXIS,))

    @property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec())


def choose(way: str, batch_size: int) -> Devices:
    """Take as many devices as can share a batch of this size equally, and say so.

    Raises:
        UserError: not even one of each process can.
    """
    processes, local = jax.process_count(), jax.local_device_count()
    fitting = [n for n in range(1, local + 1) if batch_size % (n * processes) == 0]
    if not fitting:
        raise UserError(
            f"A batch of {batch_size} images cannot be divided among {processes} "
            "processes: make --config.phases[i].batch_size a multiple of that."
        )
    each = fitting[-1]
    if each < local:
        LOGGER.info(
            "%d of %d devices share each batch: they must divide its %d images.",
            each * processes,
            local * processes,
            batch_size,
        )
    return every(way, each=each)


def every(way: str = "jit", *, each: int | None = None) -> Devices:
    """Take all devices, or so many of each process."""
    of_processes = [
        [d for d in jax.devices() if d.process_index == index][:each]
        for index in range(jax.process_count())
    ]
    return Devices(tuple(device for some in of_processes for device in some), way)


def _put(leaf: Any, sharding: NamedSharding) -> Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    # Of several processes, each puts its own part.
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(
        values.shape, sharding, lambda index: values[index]
    )
