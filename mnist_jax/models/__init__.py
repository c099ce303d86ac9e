"""The networks, and the only place that knows what Flax is.

`create(config.model)` gives a `Model`: a name and a handful of pure functions of plain
pytrees. One call fits every network: images float32 [batch, 28, 28, 1] in 0..1 to
logits float32 [batch, 10]. A network that wants another size or more channels sees to
that in its own first lines.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from mnist_jax.errors import UserError
from mnist_jax.models import layers, operations, vgg
from mnist_jax.models.double_cnn import DoubleCNN
from mnist_jax.models.fast_cnn import FastCNN
from mnist_jax.models.lenet5 import LeNet5
from mnist_jax.models.triple_cnn import TripleCNN
from mnist_jax.typing import Config, Tree

MODELS: dict[str, Callable[..., nn.Module]] = {
    "double_cnn": DoubleCNN,
    "fast_cnn": FastCNN,
    "lenet5": LeNet5,
    "triple_cnn": TripleCNN,
    "vgg16": vgg.VGG16,
    "vgg19": vgg.VGG19,
}
DTYPES: dict[str, DTypeLike] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions; `params` and `batch_stats` are nested dicts.

    Attributes:
        name: the key in `MODELS`.
        module: the Flax module behind the functions.
        image_shape: height, width and channels of what it is given.
        convolutions: their form, see `mnist_jax.models.operations`; None: the default
            backend's.
    """

    name: str
    module: nn.Module
    image_shape: tuple[int, int, int] = (28, 28, 1)
    convolutions: str | None = None

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The layers that have parameters, in the parts that can be run by themselves.

        A network that cannot be taken apart is a single one.
        """
        if isinstance(self.module, vgg.VGG):
            return self.module.stages
        params, _ = jax.eval_shape(self.init, jax.random.key(0))
        return (tuple(params),)

    def init(self, key: PRNGKeyArray) -> tuple[Tree, Tree]:
        """Draw `(params, batch_stats)`; the latter is empty without BatchNorm."""
        images = jnp.zeros((1, *self.image_shape), jnp.float32)
        variables = self.module.init({"params": key}, images, train=False)
        return variables["params"], variables.get("batch_stats", {})

    def apply(
        self,
        params: Tree,
        batch_stats: Tree,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool,
        key: PRNGKeyArray | None = None,
        frozen: Collection[str] = (),
        start: int = 0,
    ) -> tuple[Float[Array, "batch classes"], Tree]:
        """Return `(logits, batch_stats)`.

        Args:
            params: as `init` lays them out.
            batch_stats: likewise; returned as they are unless `train`.
            images: in 0..1; if `start` is not 0, what `run_until(start)` gave.
            train: with dropout, and with BatchNorm over this batch.
            key: for dropout; needed only if `train` and the network has any.
            frozen: layers of BatchNorm that go by their running statistics, and leave
                them as they are, in training too.
            start: index in `stages` of the first to compute.
        """
        rngs = None if key is None else {"dropout": key}
        part: dict[str, Any] = {"start": start} if start else {}
        with operations.form(self.convolutions), _as_in_evaluation(frozen):
            logits, updates = self.module.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=train,
                rngs=rngs,
                mutable=["batch_stats"] if train else [],
                **part,
            )
        logits = logits.astype(jnp.float32)  # so that the loss is, whatever the dtype
        return logits, updates.get("batch_stats", batch_stats)

    def run_until(
        self,
        stop: int,
        params: Tree,
        batch_stats: Tree,
        images: Float[Array, "batch height width channels"],
    ) -> Float[Array, "batch ..."]:
        """Return what the stages before `stop` make of images, in evaluation.

        Args:
            stop: index in `stages`, at least 1.
            params: as `init` lays them out.
            batch_stats: likewise.
            images: in 0..1.
        """
        with operations.form(self.convolutions):
            part: Any = self.module.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=False,
                stop=stop,
            )
        return part

    def features(
        self,
        params: Tree,
        batch_stats: Tree,
        images: Float[Array, "batch height width channels"],
    ) -> Float[Array, "batch features"]:
        """Return what the last layer sees: the penultimate activations."""
        updates: Tree
        with operations.form(self.convolutions):
            _, updates = self.module.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=False,
                mutable=["intermediates"],
            )
        return updates["intermediates"]["features"][0]

    def summary(self) -> str:
        """Return a table of the layers: their shapes, parameters and FLOPs."""
        table = nn.summary.tabulate(
            self.module,
            jax.random.key(0),
            depth=1,
            compute_flops=True,
            console_kwargs={"width": 120, "force_terminal": False, "no_color": True},
            column_kwargs={"overflow": "fold"},
        )(jnp.zeros((1, *self.image_shape), jnp.float32), train=False)
        return "\n".join(line.rstrip() for line in table.strip().splitlines()) + "\n"


def create(config: Config, *, dtype: str = "float32") -> Model:
    """Build the network that `config` (the experiment's `config.model`) names.

    Args:
        config: the experiment's `model`: `name`, and `input_size`, `preprocess` and
            `kernel_init`, which only VGG has and which may be left out.
        dtype: what is computed in, one of `DTYPES`; parameters, BatchNorm's statistics
            and logits are float32 in any case.

    Raises:
        UserError: there is no model or dtype of that name, or it has no such option.
    """
    if config.name not in MODELS:
        known = ", ".join(sorted(MODELS))
        raise UserError(
            f"--config.model.name={config.name}: no such model (known: {known})."
        )
    if dtype not in DTYPES:
        raise UserError(
            f"--config.dtype={dtype}: unknown (known: {', '.join(DTYPES)})."
        )
    defaults = {"input_size": 0, "preprocess": "unit", "kernel_init": "glorot_uniform"}
    fields = {name: config.get(name, value) for name, value in defaults.items()}
    options: dict[str, Any] = {}
    if config.name in ("vgg16", "vgg19"):
        options = {"size": fields.pop("input_size") or vgg.SMALLEST, **fields}
        vgg.check(**options)
    elif other := [name for name in fields if fields[name] != defaults[name]]:
        raise UserError(
            f"--config.model.{other[0]}={fields[other[0]]}: only vgg16 and vgg19 have "
            f"this choice, {config.name} has none."
        )
    module = MODELS[config.name](dtype=DTYPES[dtype], **options)
    return Model(name=config.name, module=module)


@contextlib.contextmanager
def _as_in_evaluation(frozen: Collection[str]) -> Iterator[None]:
    """Make the named layers of BatchNorm behave as in evaluation, as Keras does."""

    def intercept(run: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, layers.BatchNorm) and "/".join(module.path) in frozen:
            kwargs = kwargs | {"use_running_average": True}
        return run(*args, **kwargs)

    if not frozen:
        yield
        return
    with nn.intercept_methods(intercept):
        yield
