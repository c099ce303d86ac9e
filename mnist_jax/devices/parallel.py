"""Devices that share a batch, or the replicas of a training.

Training steps are functions of one batch. On several devices, `jax.shard_map` runs a
step once per device, on a shard of the batch; `mnist_jax.devices.shards` has the
collective operations that make the result that of the whole batch. `jax.pmap` does the
same if `--config.parallel=pmap` asks for it. On one device the step is only jitted.

Replicas of a training (the same network and data with other seeds) are divided among
devices instead: each device trains some replicas, on whole batches.
"""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from mnist_jax.devices import shards
from mnist_jax.devices.compiler import compiler_options
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices that share each batch or, if there are several replicas, the replicas.

    With several replicas, arrays that differ between them have a leading axis of length
    `replicas`; arrays that they have in common, such as images, have none.

    Attributes:
        devices: JAX's, in the order of their shards; the same number of each process.
        way: "jit" or "pmap".
        replicas: how many; several are a multiple of the number of devices, of one
            process and of the way "jit".
    """

    devices: tuple[Any, ...]
    """In the order of their shards; the same number of each process."""
    way: str = "jit"
    replicas: int = 1
    """Several are a multiple of the devices, of one process, and of the way "jit"."""

    @property
    def count(self) -> int:
        """How many devices share a batch."""
        return len(self.devices) if self.replicas == 1 else 1

    @property
    def must_wait(self) -> bool:
        """Whether a call must end before the next one is made.

        Several CPU devices can deadlock, as all-reduces block the threads they share.
        """
        return self.count > 1 and self.devices[0].platform == "cpu"

    def replicate(self, tree: Tree) -> Tree:
        """Put arrays, which are the same in all processes, on every device."""
        return self._put(tree, PartitionSpec())

    def place(self, state: Tree) -> Tree:
        """Put arrays on every device, or divide those of several replicas."""
        return self._put(state, self._of_replicas)

    def split(self, batch: Array | np.ndarray, *, axis: int = -1) -> Any:
        """Divide the axis of a batch among the devices that share it.

        Args:
            batch: images or, with the default axis, indices [*calls, batch].
            axis: the axis of the batch.
        """
        if self.count == 1:
            return batch
        axis %= batch.ndim
        if self.way == "pmap":
            parts = np.stack(np.split(np.asarray(batch), self.count, axis))
            return parts[[d.process_index == jax.process_index() for d in self.devices]]
        return self._put(batch, PartitionSpec(*[None] * axis, shards.AXIS))

    def map(
        self, function: Callable[..., Tree], in_axes: tuple[int | None, ...]
    ) -> Callable[..., Tree]:
        """Map a function of one replica over those arguments whose axis is not None."""
        return function if self.replicas == 1 else jax.vmap(function, in_axes)

    def compile(
        self,
        function: Callable[..., Tree],
        in_axes: tuple[int | None, ...],
        arguments: Sequence[Any],
        *,
        split: int,
        donate: bool = False,
    ) -> Callable[..., Tree]:
        """Compile a function of one replica and one batch for all devices.

        Args:
            function: returns the same on every device that shares a batch, by
                `shards.mean` and `shards.gather`.
            in_axes: as for `map`.
            arguments: from `replicate`, `place` and `split`, as in later calls.
            split: the index of the argument that is from `split`.
            donate: whether the result may reuse the first argument's buffers.
        """
        if self.count > 1 and self.way == "pmap":
            axes = tuple(0 if i == split else None for i in range(len(arguments)))
            mapped = jax.pmap(
                function, shards.AXIS, in_axes=axes, out_axes=None, devices=self.devices
            )
            return mapped.lower(*arguments).compile()
        function = self.map(function, in_axes)
        if len(self.devices) > 1:
            own, whole = self._of_replicas, PartitionSpec()
            specs: list[Any] = [whole if axis is None else own for axis in in_axes]
            if self.count > 1:
                specs[split] = jax.tree.map(lambda x: x.sharding.spec, arguments[split])
            function = jax.shard_map(
                function,
                mesh=self._mesh,
                in_specs=tuple(specs),
                out_specs=own,
                check_vma=False,
            )
        jitted = jax.jit(
            function,
            donate_argnums=(0,) if donate else (),
            compiler_options=compiler_options(),
        )
        return jitted.lower(*arguments).compile()

    @property
    def _of_replicas(self) -> PartitionSpec:
        return PartitionSpec() if self.replicas == 1 else PartitionSpec("replicas")

    @property
    def _mesh(self) -> Mesh:
        axis = shards.AXIS if self.replicas == 1 else "replicas"
        return Mesh(np.array(self.devices), (axis,))

    def _put(self, tree: Tree, spec: PartitionSpec) -> Tree:
        if len(self.devices) == 1:  # JAX 0.7 can batch convolutions without a mesh only
            return jax.device_put(tree, self.devices[0])
        sharding = NamedSharding(self._mesh, spec)
        if sharding.is_fully_addressable:
            return jax.device_put(tree, sharding)

        def put_part(leaf: Any) -> Array:
            if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
                return leaf
            if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = np.asarray(leaf)
            return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

        return jax.tree.map(put_part, tree)  # each of several processes its own


def every(way: str = "jit", *, each: int | None = None) -> Devices:
    """Take all devices, or the first `each` devices of each process."""
    of_processes = [
        [d for d in jax.devices() if d.process_index == index][:each]
        for index in range(jax.process_count())
    ]
    return Devices(tuple(itertools.chain(*of_processes)), way)


def choose(way: str, batch_size: int, *, seeds: int = 1) -> Devices:
    """Take as many devices as can share each batch, or the seeds, equally.

    Raises:
        UserError: the processes cannot divide a batch, or this version of JAX seeds.
    """
    processes, local = jax.process_count(), jax.local_device_count()
    if seeds > 1:
        share = -(-seeds // local)
        used = -(-seeds // share)  # as few as keep the shares this small
        if used > 1 and jax.__version_info__ < (0, 8):  # jax issue 32157
            raise UserError(
                f"JAX {jax.__version__} cannot divide seeds that train together among "
                "several devices: update it to 0.8 or newer, or use --notogether."
            )
        on = f" on {used} of {local} devices, up to {share} on each" * (used > 1)
        LOGGER.info(
            f"{seeds} seeds train together, in one program{on}. Seconds are those of "
            "all, images/s those of each."
        )
        return Devices(tuple(jax.local_devices()[:used]), replicas=used * share)
    if batch_size % processes:
        raise UserError(
            f"A batch of {batch_size} images cannot be divided among {processes} "
            "processes: make --config.phases[i].batch_size a multiple of that."
        )
    own = batch_size // processes
    each = max(n for n in range(1, local + 1) if own % n == 0)
    if each < local:
        LOGGER.info(
            "%d of %d devices share each batch: they must divide its %d images.",
            each * processes,
            local * processes,
            batch_size,
        )
    return every(way, each=each)


def check_available() -> None:
    """Raise a UserError if the platform that is asked for has no device."""
    try:
        jax.devices()
    # JAX raises an assertion for a platform whose plugin is not installed.
    except (AssertionError, RuntimeError) as error:
        asked = getattr(jax.config, "jax_platforms")  # noqa: B009 - set at run time
        reason = str(error).split("\n")[0].rstrip(".") or "it is not installed"
        raise UserError(
            f"JAX found no device for the platform {asked!r}: {reason}. "
            "--jax_platforms=cpu (or the variable JAX_PLATFORMS) chooses the CPU."
        ) from error
