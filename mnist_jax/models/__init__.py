"""The networks, and the only place that knows what Flax is.

`create(config.model)` returns a `Model`: a name and a few pure functions of pytrees.
Every network maps images, float32 [batch, 28, 28, 1] in 0..1, to logits, float32
[batch, 10]. A network that needs another size or more channels converts the images in
its first lines. The fields of its module are its options in `config.model`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from mnist_jax import config
from mnist_jax.config import ConfigError
from mnist_jax.models import layers, operations
from mnist_jax.models.double_cnn import DoubleCNN
from mnist_jax.models.fast_cnn import FastCNN
from mnist_jax.models.lenet5 import LeNet5
from mnist_jax.models.triple_cnn import TripleCNN
from mnist_jax.models.vgg import VGG16, VGG19
from mnist_jax.typing import Tree

IMAGE_SHAPE = (28, 28, 1)
"""Height, width and channels of the images that every network is given."""

MODELS: dict[str, type[nn.Module]] = {
    "double_cnn": DoubleCNN,
    "fast_cnn": FastCNN,
    "lenet5": LeNet5,
    "triple_cnn": TripleCNN,
    "vgg16": VGG16,
    "vgg19": VGG19,
}
DTYPES: dict[str, DTypeLike] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Fields of every module, which are not options of its network.
_OF_EVERY_MODULE = ("dtype", "parent", "name")


@runtime_checkable
class Cuttable(Protocol):
    """A module that can compute a part of its network.

    Its `__call__` takes `start` and `stop`, indices in `stages`: it computes the stages
    from `start` up to, but not including, `stop`, from the output of the stage before.
    """

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The layers with parameters, stage by stage."""
        ...


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions; `params` and `batch_stats` are nested dicts.

    Attributes:
        name: the key in `MODELS`.
        module: the Flax module behind the functions.
        convolutions: their form, see `mnist_jax.models.operations`; None: the default
            backend's.
    """

    name: str
    module: nn.Module
    convolutions: str | None = None

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The layers with parameters, in the parts that can be computed separately.

        A network that cannot be cut is one stage.
        """
        if isinstance(self.module, Cuttable):
            return self.module.stages
        params, _ = jax.eval_shape(self.init, jax.random.key(0))
        return (tuple(params),)

    def init(self, key: PRNGKeyArray) -> tuple[Tree, Tree]:
        """Draw `(params, batch_stats)`; the latter is empty without BatchNorm."""
        images = jnp.zeros((1, *IMAGE_SHAPE), jnp.float32)
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
        )(jnp.zeros((1, *IMAGE_SHAPE), jnp.float32), train=False)
        return "\n".join(line.rstrip() for line in table.strip().splitlines()) + "\n"


def options_of(name: str) -> dict[str, dataclasses.Field]:
    """Return the options of a network, by name: the fields of its module.

    Raises:
        ConfigError: there is no network of that name.
    """
    if name not in MODELS:
        raise ConfigError(
            f"--config.model.name={name}: no such model (known: "
            f"{', '.join(sorted(MODELS))})."
        )
    fields = config.fields_of(MODELS[name])
    return {n: field for n, field in fields.items() if n not in _OF_EVERY_MODULE}


def complete(model: config.Model) -> config.Model:
    """Return a config with every option of the network that it names, checked.

    Raises:
        ConfigError: there is no network of that name, it does not have one of the
            options, or an option has a value that it cannot have.
    """
    known = options_of(model.name)
    for option in model.options:
        if option not in known:
            hint = config.did_you_mean(option, known)
            raise ConfigError(
                f"--config.model.{option}: {model.name} has no such option.{hint} In a "
                f"config file, config.model = base.get_model({model.name!r}) gives its "
                "options."
            )
    given = config.parse_options(model.options, known.values(), flag="--config.model")
    defaults = {name: field.default for name, field in known.items()}
    return dataclasses.replace(model, options=defaults | given)


def create(model: config.Model, *, dtype: str = "float32") -> Model:
    """Build the network that `config.model` names.

    Args:
        model: its name and options; a missing option has its default.
        dtype: a key of `DTYPES`: the type of the computation. Parameters, BatchNorm's
            statistics and logits are float32 in any case.

    Raises:
        ConfigError: as in `complete`.
    """
    options = complete(model).options
    module = MODELS[model.name](**options, dtype=DTYPES[dtype])  # type: ignore[call-arg]
    return Model(name=model.name, module=module)


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
