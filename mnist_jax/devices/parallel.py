"""Devices: which ones share a batch, where arrays lie, what is compiled for them.

A step is written for one batch. Two ways spread it over devices, with the same result:

- `jit` over a mesh with the one axis `data`: XLA sees the whole step and divides it.
  The places of a batch's images are divided among the devices, all else lies on each.
- `jax.pmap`: the step runs once for each device, on its share of the batch, and
  `mnist_jax.devices.shards` puts together what belongs together.

Several processes, each with its own devices, are one mesh, or one map.

Replicas of a training (the same network and data with other seeds) are shared among
devices in another way: each device has some replicas, and their batches whole.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from mnist_jax.devices import failures, shards
from mnist_jax.devices.compiler import compiler_options
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree

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

    replicas = 1
    batch_axis = 0

    @property
    def count(self) -> int:
        """How many share a batch."""
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

    def place(self, state: Tree) -> Tree:
        """Put what training changes where it is changed: here, on every device."""
        return self.replicate(state)

    def map(
        self, function: Callable[..., Tree], in_axes: tuple[int | None, ...]
    ) -> Callable[..., Tree]:
        """Return a function of the only replica for all replicas: the same."""
        del in_axes
        return function

    def split(self, batch: Array | np.ndarray, *, axis: int = -1) -> Any:
        """Divide an axis, that of a batch, among the devices.

        Args:
            batch: images or, with the default, numbers of images [*calls, batch].
            axis: which axis is the batch's.

        Returns:
            What a function of `compile` takes as its `split` argument.
        """
        axis %= batch.ndim
        if self.way == "jit":
            spec = PartitionSpec(*[None] * axis, shards.AXIS)
            return _put(batch, NamedSharding(self._mesh, spec))
        before, after = batch.shape[:axis], batch.shape[axis + 1 :]
        every = np.asarray(batch).reshape(*before, self.count, -1, *after)
        own = [d.process_index == jax.process_index() for d in self.devices]
        return np.moveaxis(every, axis, 0)[own]

    def compile(
        self,
        function: Callable[..., Tree],
        arguments: Sequence[Any],
        *,
        split: int,
        donate: bool = False,
    ) -> Callable[..., Tree]:
        """Compile a function that the devices share.

        Args:
            function: what it returns is the same on every device: means over the batch,
                or batches that `shards.gather` has put together.
            arguments: as it will be called with: all of `replicate`, one of `split`.
            split: which argument is that of `split`.
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
            return function(*others[:split], own, *others[split:])

        def apart(arguments: Sequence[Any]) -> tuple[tuple[Any, ...], Any]:
            return (*arguments[:split], *arguments[split + 1 :]), arguments[split]

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


@dataclasses.dataclass(frozen=True)
class ReplicaDevices:
    """Devices that share the replicas of a training; to be used as `Devices` is.

    What belongs to a replica has a leading axis of length `replicas`, which is divided
    among the devices. What they have in common, such as images, lies on each device
    once. The devices have nothing to tell each other.

    Attributes:
        devices: JAX's, all of this process.
        replicas: how many there are: a multiple of the devices.
    """

    devices: tuple[Any, ...]
    replicas: int

    batch_axis = 1
    count = 1  # a batch is not shared
    must_wait = False

    def replicate(self, tree: Tree) -> Tree:
        """Put what the replicas have in common on every device."""
        return jax.device_put(tree, self._sharding(PartitionSpec()))

    def place(self, state: Tree) -> Tree:
        """Divide what has a leading axis of replicas among the devices."""
        return jax.device_put(state, self._sharding(_BY_REPLICA))

    def map(
        self, function: Callable[..., Tree], in_axes: tuple[int | None, ...]
    ) -> Callable[..., Tree]:
        """Return a function of one replica for all of them.

        Args:
            function: of one replica.
            in_axes: for each argument, 0 if each replica has its own, or None.
        """
        mapped = jax.vmap(function, in_axes)
        if len(self.devices) == 1:
            return mapped
        return jax.shard_map(
            mapped,
            mesh=self._mesh,
            in_specs=tuple(
                PartitionSpec() if axis is None else _BY_REPLICA for axis in in_axes
            ),
            out_specs=_BY_REPLICA,
            check_vma=False,
        )

    def split(self, batch: Any, *, axis: int = -1) -> Any:
        """Return a batch unchanged: it is not divided."""
        del axis
        return batch

    def compile(
        self,
        function: Callable[..., Tree],
        arguments: Sequence[Any],
        *,
        split: int,
        donate: bool = False,
    ) -> Callable[..., Tree]:
        """Compile a function that `map` returned; the rest is as in `Devices`."""
        del split
        jitted = jax.jit(
            function,
            donate_argnums=(0,) if donate else (),
            compiler_options=compiler_options(),
        )
        return jitted.lower(*arguments).compile()

    def _sharding(self, spec: PartitionSpec) -> jax.sharding.Sharding:
        # On one device without a mesh, since there JAX 0.7 can batch convolutions.
        if len(self.devices) == 1:
            return jax.sharding.SingleDeviceSharding(self.devices[0])
        return NamedSharding(self._mesh, spec)

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), ("replicas",))


_BY_REPLICA = PartitionSpec("replicas")


def share_replicas(count: int) -> ReplicaDevices:
    """Divide replicas among as few devices as make the largest share smallest.

    The shares are equal: up to one device's share less one is added to `count`, and
    the caller fills it with repetitions.

    Args:
        count: of the replicas, at least 2.

    Raises:
        UserError: this version of JAX cannot do so.
    """
    devices = jax.local_devices()
    share = -(-count // len(devices))
    used = -(-count // share)
    if used > 1 and jax.__version_info__ < (0, 8):  # jax issue 32157
        raise UserError(
            f"JAX {jax.__version__} cannot divide seeds that train together among "
            "several devices: update it to 0.8 or newer, or use --notogether."
        )
    LOGGER.info(
        "%d seeds train together, in one program%s.",
        count,
        f" on {used} of {len(devices)} devices, up to {share} on each" * (used > 1),
    )
    return ReplicaDevices(tuple(devices[:used]), used * share)


def check_available() -> None:
    """Check that JAX has a device.

    Raises:
        UserError: what was asked for, by flag or environment, is not there.
    """
    try:
        failures.find_devices()
    # An assertion is all that JAX has for a platform whose plugin is not installed.
    except (AssertionError, RuntimeError) as error:
        asked = getattr(jax.config, "jax_platforms")  # noqa: B009 - set at run time
        reason = str(error).split("\n")[0].rstrip(".") or "it is not installed"
        raise UserError(
            f"JAX found no device for the platform {asked!r}: {reason}. "
            "--jax_platforms=cpu (or the variable JAX_PLATFORMS) chooses the CPU."
        ) from error


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
