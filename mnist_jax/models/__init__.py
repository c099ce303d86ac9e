"""The networks, and the only package that imports Flax.

`create(config.model, task)` returns a `Model`: a few pure functions of pytrees.

A network is a Flax module that maps images, float32 [batch, height, width, channels] in
0..1 (0 is the background), to `Outputs` or just to logits, float32 [batch, classes]. It
converts the images itself if it needs another size or more channels. Its fields are its
options in `config.model`, except `num_classes` and `dtype`, which it is given. The
random stream of dropout is `dropout`. What else it may have:

- a keyword `labels` of `__call__`, if the labels of the batch are part of its input;
- a method `loss(outputs, images, labels, *, smoothing)` -> float32 [batch], if its
  loss is not the cross-entropy; without `smoothing` if it has no labels to smooth;
- reconstructed images, the extra output `reconstruction`; and a method
  `reconstruct(capsules, labels, shape)` that draws those of some classes from the extra
  output `capsules`, [batch, classes, size];
- its penultimate activations, sown as `features` into the collection `intermediates`;
- `stages`, see `Model.stages`.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from mnist_jax import config
from mnist_jax.config import ConfigError
from mnist_jax.data import Task
from mnist_jax.errors import CONTROL
from mnist_jax.models import layers, operations
from mnist_jax.models.alexnet import AlexNet, AlexNetOWT
from mnist_jax.models.capsnet import CapsNet
from mnist_jax.models.densenet import DenseNet, DenseNet121
from mnist_jax.models.double_cnn import DoubleCNN
from mnist_jax.models.efficient_capsnet import EfficientCapsNet
from mnist_jax.models.fast_cnn import FastCNN
from mnist_jax.models.inception import Inception, InceptionV3
from mnist_jax.models.lenet5 import LeNet5
from mnist_jax.models.outputs import Images, Labels, Maps, Outputs, cross_entropy
from mnist_jax.models.resnet import ResNet, ResNet50V2
from mnist_jax.models.triple_cnn import TripleCNN
from mnist_jax.models.vgg import VGG16
from mnist_jax.models.xception import Xception, XceptionV1
from mnist_jax.tree import Tree

MODELS: dict[str, type[nn.Module]] = {
    "alexnet": AlexNet,
    "alexnet_owt": AlexNetOWT,
    "capsnet": CapsNet,
    "densenet": DenseNet,
    "densenet121": DenseNet121,
    "double_cnn": DoubleCNN,
    "efficient_capsnet": EfficientCapsNet,
    "fast_cnn": FastCNN,
    "inception": Inception,
    "inception_v3": InceptionV3,
    "lenet5": LeNet5,
    "resnet": ResNet,
    "resnet50v2": ResNet50V2,
    "triple_cnn": TripleCNN,
    "vgg16": VGG16,
    "xception": Xception,
    "xception_v1": XceptionV1,
}
# Fields of every module that are not options of the network.
_OF_EVERY_MODULE = ("num_classes", "dtype", "parent", "name")


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions; `params` and `batch_stats` are nested dicts.

    Attributes:
        name: a key in `MODELS`, or a dotted path.
        module: the Flax module behind the functions.
        task: its classes and image shape.
        convolutions: their form, see `operations`; None for the backend's default.
    """

    name: str
    module: nn.Module
    task: Task
    convolutions: str | None = None

    @functools.cached_property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The names of the layers with parameters, stage by stage.

        A module whose network can be computed in parts has this attribute too, and its
        `__call__` takes `start` and `stop`: it computes the stages from `start` up to,
        but not including, `stop`. Any other network is a single stage, with its layers
        in the order of their creation.
        """
        if stages := getattr(self.module, "stages", None):
            return stages
        paths: list[tuple[str, ...]] = []
        flatten = flax.traverse_util.flatten_dict
        jax.eval_shape(
            lambda key: paths.extend(flatten(self.init(key)[0])), jax.random.key(0)
        )
        return (tuple(dict.fromkeys("/".join(path[:-1]) for path in paths)),)

    @functools.cached_property
    def shapes(self) -> tuple[Tree, Tree]:
        """`(params, batch_stats)` as `jax.ShapeDtypeStruct`s.

        Raises:
            ConfigError: the network does not give one logit for each class.
        """
        params, batch_stats = jax.eval_shape(self.init, jax.random.key(0))
        outputs, _ = jax.eval_shape(
            functools.partial(self.apply, train=False), params, batch_stats, self._image
        )
        if outputs.logits.shape != (1, len(self.task.classes)):
            raise ConfigError(
                f"--config.model.name={self.name}: the network gives logits of shape "
                f"{list(outputs.logits.shape)} for one image, but the data have "
                f"{len(self.task.classes)} classes. Use its field `num_classes`."
            )
        return params, batch_stats

    def init(self, key: PRNGKeyArray) -> tuple[Tree, Tree]:
        """Draw `(params, batch_stats)`; the latter is empty without BatchNorm."""
        variables = self.module.init({"params": key}, self._image, **self._inputs())
        return variables.get("params", {}), variables.get("batch_stats", {})

    def apply(
        self,
        params: Tree,
        batch_stats: Tree,
        images: Images,
        *,
        train: bool,
        key: PRNGKeyArray | None = None,
        labels: Labels | None = None,
        frozen: Collection[str] = (),
        momentum: Float[Array, ""] | float = 1.0,
        start: int = 0,
    ) -> tuple[Outputs, Tree]:
        """Return `(outputs, batch_stats)`.

        Args:
            params: from `init`.
            batch_stats: from `init`; changed only if `train`.
            images: in 0..1, or the output of `run_until(start)`.
            train: whether to use dropout, and this batch's statistics in BatchNorm.
            key: for dropout.
            labels: for a network whose input they are part of.
            frozen: whole paths of BatchNorm layers, such as "block1/norm2", that use,
                and keep, their running statistics in training too.
            momentum: upper limit of the decay rate of BatchNorm's running statistics.
            start: index in `stages` of the first to compute.
        """
        outputs, updates = self._run(
            params,
            batch_stats,
            images,
            frozen=frozen,
            momentum=momentum,
            train=train,
            labels=labels,
            rngs=None if key is None else {"dropout": key},
            mutable=["batch_stats"] if train else [],
            **({"start": start} if start else {}),
        )
        if not isinstance(outputs, Outputs):
            outputs = Outputs(outputs)
        # The loss is computed in float32, whatever the network's dtype.
        outputs = outputs._replace(logits=outputs.logits.astype(jnp.float32))
        return outputs, updates.get("batch_stats", batch_stats)

    def loss(
        self,
        outputs: Outputs,
        images: Float[Array, "batch ..."],
        labels: Labels,
        *,
        smoothing: float = 0.0,
    ) -> Float[Array, " batch"]:
        """Return the loss of each image: the cross-entropy, or the module's own.

        `smoothing` must be 0 unless `can_smooth_labels`.
        """
        options = {"smoothing": smoothing} if self.can_smooth_labels else {}
        if own := getattr(self.module, "loss", None):
            return own(outputs, images, labels, **options)
        return cross_entropy(outputs.logits, labels, **options)

    @property
    def can_smooth_labels(self) -> bool:
        """Whether `loss` takes `smoothing`; a module's own may not."""
        own = getattr(self.module, "loss", None)
        return own is None or "smoothing" in inspect.signature(own).parameters

    def reconstruct(
        self, params: Tree, capsules: Float[Array, "batch classes size"], labels: Labels
    ) -> Images | None:
        """Draw images in 0..1 from capsules; None if the module cannot do that."""
        if not hasattr(self.module, "reconstruct"):
            return None
        shape, variables = self.task.image_shape, {"params": params}
        drawn: Any = self.module.apply(
            variables, capsules, labels, shape, method="reconstruct"
        )
        return drawn

    def run_until(
        self, stop: int, params: Tree, batch_stats: Tree, images: Images
    ) -> Float[Array, "batch ..."]:
        """Return the output, in evaluation, of the stages before index `stop` >= 1."""
        return self._run(params, batch_stats, images, stop=stop)

    def features(
        self, params: Tree, batch_stats: Tree, images: Images
    ) -> Float[Array, "batch features"] | None:
        """Return the penultimate activations; None if the network does not sow any."""
        _, updates = self._run(params, batch_stats, images, mutable=["intermediates"])
        return updates.get("intermediates", {}).get("features", (None,))[0]

    def feature_maps(
        self, params: Tree, batch_stats: Tree, images: Images
    ) -> dict[str, Maps]:
        """Return the output of each convolution in evaluation, by the layer's path.

        A convolution that is used several times has its first output.
        """
        _, updates = self._run(
            params,
            batch_stats,
            images,
            mutable=["intermediates"],
            capture_intermediates=lambda module, _: isinstance(
                module, layers.Conv | nn.Conv
            ),
        )
        found: Any = flax.traverse_util.flatten_dict(updates.get("intermediates", {}))
        return {
            "/".join(path): outputs[0]
            for (*path, name), outputs in found.items()
            if name == "__call__"
        }

    def _run(
        self,
        params: Tree,
        batch_stats: Tree,
        images: Images,
        *,
        train: bool = False,
        labels: Array | None = None,
        frozen: Collection[str] = (),
        momentum: Float[Array, ""] | float = 1.0,
        **options: Any,
    ) -> Any:
        variables = {"params": params, "batch_stats": batch_stats}
        options |= self._inputs(train=train, labels=labels)
        with operations.form(self.convolutions), _batch_norm(frozen, momentum):
            return self.module.apply(variables, images, **options)

    def _inputs(self, **inputs: Any) -> dict[str, Any]:
        """Return the keywords that `__call__` takes; by default for one image."""
        taken = inspect.signature(type(self.module).__call__).parameters
        inputs = inputs or {"train": False, "labels": jnp.zeros(1, jnp.uint8)}
        return {name: value for name, value in inputs.items() if name in taken}

    @property
    def _image(self) -> Images:
        return jnp.zeros((1, *self.task.image_shape), jnp.float32)

    def summary(self) -> str:
        """Return a table of the layers: their shapes, parameters and FLOPs."""
        table = nn.summary.tabulate(
            self.module,
            jax.random.key(0),
            depth=1,
            compute_flops=True,
            console_kwargs={"width": 160, "force_terminal": False, "no_color": True},
            column_kwargs={"overflow": "fold"},
        )(self._image, **self._inputs())
        return "\n".join(line.rstrip() for line in table.strip().splitlines()) + "\n"


def options_of(name: str) -> dict[str, dataclasses.Field]:
    """Return the options of a network, by name.

    These are the fields of its module, except those of other types than the config's,
    such as functions.

    Raises:
        ConfigError: there is no network of that name, or an option has no default.
    """
    module = _find(name)
    hints = typing.get_type_hints(module)  # of strings, if annotations are postponed
    options = {}
    for option, field in config.fields_of(module).items():
        field = copy.copy(field)
        field.type = hints[option]
        if option in _OF_EVERY_MODULE or not config.can_be_parsed(field.type):
            continue
        if field.default is dataclasses.MISSING:
            raise ConfigError(
                f"--config.model.name={name}: its field {option!r} needs a default."
            )
        options[option] = field
    return options


def complete(model: config.Model) -> config.Model:
    """Check the options of a network, and add the defaults of missing ones.

    Raises:
        ConfigError: there is no such network, or it has no such option or value.
    """
    known = options_of(model.name)
    flag = f"--config.model.name={model.name}, --config.model"
    given = config.parse_options(model.options, known.values(), flag=flag)
    defaults = {name: field.default for name, field in known.items()}
    return dataclasses.replace(model, options=defaults | given)


def create(model: config.Model, task: Task, *, dtype: str = "float32") -> Model:
    """Build the network that `config.model` names.

    Args:
        model: its name and options; a missing option has its default.
        task: from `data.task`.
        dtype: "float32" or "bfloat16", the type of the computation. Parameters,
            BatchNorm's statistics and logits are always float32.

    Raises:
        ConfigError: as in `complete`; or the network computes in float32 only.
    """
    if CONTROL.search("".join(task.classes)):
        raise ConfigError(f"{task.classes} are no names: they have control characters.")
    module = _find(model.name)
    fields = config.fields_of(module)
    if "dtype" not in fields and dtype != "float32":
        raise ConfigError(f"--config.dtype={dtype}: {model.name} has no field `dtype`.")
    given = {"num_classes": len(task.classes), "dtype": jnp.dtype(dtype)}
    given = {name: value for name, value in given.items() if name in fields}
    return Model(model.name, module(**complete(model).options, **given), task)


def _find(name: str) -> type[nn.Module]:
    """Return the module of a network, or raise ConfigError."""
    if name in MODELS:
        return MODELS[name]
    flag = "--config.model.name"
    if ":" not in name:
        raise ConfigError(
            f"{flag}={name}: no such network (known: {', '.join(sorted(MODELS))}). "
            "my_nets:MLP would be the Flax module MLP in your file my_nets.py."
        )
    found = config.load_object(name, flag)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"{flag}={name}: not a class of Flax modules.")
    return found


def _batch_norm(
    frozen: Collection[str], momentum: Float[Array, ""] | float
) -> contextlib.AbstractContextManager[None]:
    """Make frozen BatchNorm layers behave as in evaluation, and limit the momentum."""

    def intercept(run: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if not isinstance(module, layers.BatchNorm | nn.BatchNorm):
            return run(*args, **kwargs)
        limit = jnp.minimum(module.momentum, momentum)
        object.__setattr__(module, "momentum", limit)
        if "/".join(module.path) in frozen:
            kwargs = kwargs | {"use_running_average": True}
            if isinstance(module, nn.BatchNorm):
                # A field or a keyword; Flax accepts only one of them.
                object.__setattr__(module, "use_running_average", True)
                kwargs["use_running_average"] = None
        return run(*args, **kwargs)

    if not frozen and isinstance(momentum, float) and momentum == 1:
        return contextlib.nullcontext()
    return nn.intercept_methods(intercept)
