"""The networks, and the only package that imports Flax.

`create(config.model)` returns a `Model`: a name and a few pure functions of pytrees.
Every network maps images, float32 [batch, 28, 28, 1] in 0..1 (0 is the background), to
logits, float32 [batch, 10], and converts the images itself if it needs another size or
more channels. Its penultimate activations are sown as `features` into the collection
`intermediates`. The random stream of dropout is `dropout`. The fields of the module are
its options in `config.model`.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

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
from mnist_jax.tree import Tree

Images = Float[Array, "batch height width channels"]

IMAGE_SHAPE = (28, 28, 1)
"""Height, width and channels of every network's input."""

MODELS: dict[str, type[nn.Module]] = {
    "double_cnn": DoubleCNN,
    "fast_cnn": FastCNN,
    "lenet5": LeNet5,
    "triple_cnn": TripleCNN,
    "vgg16": VGG16,
    "vgg19": VGG19,
}
DTYPES: dict[str, DTypeLike] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Fields of every module that are not options of the network.
_OF_EVERY_MODULE = ("dtype", "parent", "name")


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions; `params` and `batch_stats` are nested dicts.

    Attributes:
        name: the key in `MODELS`.
        module: the Flax module behind the functions.
        convolutions: their form, see `mnist_jax.models.operations`; None for the
            default of the backend.
    """

    name: str
    module: nn.Module
    convolutions: str | None = None

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The names of the layers with parameters, stage by stage.

        A module whose network can be computed in parts has an attribute `stages`, and
        its `__call__` takes `start` and `stop`: it computes the stages from `start` up
        to, but not including, `stop`. Any other network is a single stage.
        """
        if stages := getattr(self.module, "stages", None):
            return stages
        params, _ = self.shapes
        return (tuple(params),)

    @functools.cached_property
    def shapes(self) -> tuple[Tree, Tree]:
        """`(params, batch_stats)` as `jax.ShapeDtypeStruct`s."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def init(self, key: PRNGKeyArray) -> tuple[Tree, Tree]:
        """Draw `(params, batch_stats)`; the latter is empty without BatchNorm."""
        images = jnp.zeros((1, *IMAGE_SHAPE), jnp.float32)
        variables = self.module.init({"params": key}, images, train=False)
        return variables["params"], variables.get("batch_stats", {})

    def apply(
        self,
        params: Tree,
        batch_stats: Tree,
        images: Images,
        *,
        train: bool,
        key: PRNGKeyArray | None = None,
        frozen: Collection[str] = (),
        start: int = 0,
    ) -> tuple[Float[Array, "batch classes"], Tree]:
        """Return `(logits, batch_stats)`.

        Args:
            params: from `init`.
            batch_stats: from `init`; changed only if `train`.
            images: in 0..1, or the output of `run_until(start)`.
            train: whether to use dropout, and this batch's statistics in BatchNorm.
            key: for dropout.
            frozen: names of BatchNorm layers that use, and keep, their running
                statistics in training too.
            start: index in `stages` of the first to compute.
        """
        part = {"start": start} if start else {}
        logits, updates = self._run(
            params,
            batch_stats,
            images,
            frozen=frozen,
            train=train,
            rngs=None if key is None else {"dropout": key},
            mutable=["batch_stats"] if train else [],
            **part,
        )
        # The loss is computed in float32, whatever the network's dtype.
        return logits.astype(jnp.float32), updates.get("batch_stats", batch_stats)

    def run_until(
        self, stop: int, params: Tree, batch_stats: Tree, images: Images
    ) -> Float[Array, "batch ..."]:
        """Return the output, in evaluation, of the stages before index `stop` >= 1."""
        return self._run(params, batch_stats, images, train=False, stop=stop)

    def features(
        self, params: Tree, batch_stats: Tree, images: Images
    ) -> Float[Array, "batch features"]:
        """Return the penultimate activations, the input of the last layer."""
        _, updates = self._run(
            params, batch_stats, images, train=False, mutable=["intermediates"]
        )
        return updates["intermediates"]["features"][0]

    def feature_maps(
        self, params: Tree, batch_stats: Tree, images: Images
    ) -> dict[str, Float[Array, "batch _ _ _"]]:
        """Return the output of each convolution in evaluation, by its layer's name."""
        _, updates = self._run(
            params,
            batch_stats,
            images,
            train=False,
            mutable=["intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, layers.Conv),
        )
        return {
            name: outputs["__call__"][0]
            for name, outputs in updates["intermediates"].items()
            if name != "features"
        }

    def _run(
        self,
        params: Tree,
        batch_stats: Tree,
        images: Images,
        frozen: Collection[str] = (),
        **options: Any,
    ) -> Any:
        variables = {"params": params, "batch_stats": batch_stats}
        with operations.form(self.convolutions), _evaluating(frozen):
            return self.module.apply(variables, images, **options)

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
    """Check the options of a network, and add the defaults of those that are missing.

    Raises:
        ConfigError: there is no such network, or it has no such option or value.
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
        dtype: a key of `DTYPES`, the type of the computation. Parameters, BatchNorm's
            statistics and logits are always float32.

    Raises:
        ConfigError: as in `complete`.
    """
    options = complete(model).options
    module = MODELS[model.name](**options, dtype=DTYPES[dtype])  # type: ignore[call-arg]
    return Model(name=model.name, module=module)


def _evaluating(frozen: Collection[str]) -> contextlib.AbstractContextManager[None]:
    """Make the named BatchNorm layers behave as in evaluation, as Keras does."""

    def intercept(run: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, layers.BatchNorm) and "/".join(module.path) in frozen:
            kwargs = kwargs | {"use_running_average": True}
        return run(*args, **kwargs)

    return nn.intercept_methods(intercept) if frozen else contextlib.nullcontext()
