"""The capsule networks against the equations of their papers, in NumPy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import experiment, models, tree
from mnist_jax.config import ConfigError, Experiment, Model, Phase
from mnist_jax.data import Task
from mnist_jax.models import capsnet

pytestmark = pytest.mark.usefixtures("little_optimized")

TASK = Task(("a", "b", "c"), (24, 20, 1))
NETWORKS = {
    "capsnet": {"channels": 4, "capsules": 2, "decoder_units": (12, 20)},
    "efficient_capsnet": {"decoder_units": (12, 20)},
}
every_network = pytest.mark.parametrize("name", NETWORKS)


# -- the papers' equations


def squash(s):
    """Equation 1 of Sabour, Frosst and Hinton."""
    norm = np.linalg.norm(s, axis=-1, keepdims=True)
    return norm**2 / (1 + norm**2) * (s / norm)


def squash_exponentially(s):
    """Equation 3 of Mazzia, Salvetti and Chiaberge."""
    norm = np.linalg.norm(s, axis=-1, keepdims=True)
    return (1 - 1 / np.exp(norm)) * (s / norm)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def predict_vectors(u, kernel):
    """Equation 2 for an image: `u_hat[i, j] = W[i, j] u[i]`."""
    count, _, classes, size = kernel.shape
    u_hat = np.empty((count, classes, size))
    for i in range(count):
        for j in range(classes):
            u_hat[i, j] = kernel[i, :, j].T @ u[i]
    return u_hat


def route_by_agreement(u_hat, iterations):
    """Procedure 1 for an image; `v[j]`."""
    count, classes, _ = u_hat.shape
    b, v = np.zeros((count, classes)), np.empty(0)
    for _ in range(iterations):
        c = softmax(b)
        s = np.stack([c[:, j] @ u_hat[:, j] for j in range(classes)])
        v = squash(s)
        b = b + np.einsum("ijd,jd->ij", u_hat, v)
    return v


def route_by_attention(u_hat, prior):
    """Equations 5 to 8 for an image; `prior` and the coupling are [i, j]."""
    coupling = np.empty_like(prior)
    for j in range(len(prior.T)):
        attention = u_hat[:, j] @ u_hat[:, j].T / np.sqrt(8)
        coupling[:, j] = attention.sum(axis=0)
    coupling = softmax(coupling) + prior
    return squash_exponentially(np.einsum("ij,ijd->jd", coupling, u_hat))


def capsules_of(name, params, batch_stats, maps):
    """The capsules of an image, from its convolutions' outputs."""
    if name == "capsnet":
        u = squash(maps["primary"].reshape(-1, 8))
        return route_by_agreement(predict_vectors(u, params["votes"]["kernel"]), 3)
    norm, statistics = params["norm4"], batch_stats["norm4"]
    x = (maps["conv4"] - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-3)
    x = x * norm["scale"] + norm["bias"]
    primary = params["primary"]
    u = np.einsum("hwc,hwc->c", x, primary["kernel"]) + primary["bias"]
    u = squash_exponentially(u.reshape(-1, 8))
    u_hat = predict_vectors(u, params["votes"]["kernel"])
    return route_by_attention(u_hat, params["routing"]["bias"])


def decode(capsules, label, decoder):
    """Section 4.1: all capsules but one are masked."""
    x = np.where(np.arange(len(capsules))[:, None] == label, capsules, 0).ravel()
    for layer in ("dense1", "dense2"):
        x = np.maximum(x @ decoder[layer]["kernel"] + decoder[layer]["bias"], 0)
    x = x @ decoder["pixels"]["kernel"] + decoder["pixels"]["bias"]
    return 1 / (1 + np.exp(-x))


def loss_of(capsules, label, drawn, image):
    """Equation 4, and 0.0005 of the sum of squared differences."""
    total = 0.0005 * ((drawn - image.ravel()) ** 2).sum()
    for k, v in enumerate(np.linalg.norm(capsules, axis=-1)):
        total += max(0, 0.9 - v) ** 2 if k == label else 0.5 * max(0, v - 0.1) ** 2
    return total


# -- laws


@functools.cache
def drawn(name, dtype="float32"):
    """The network, and weights all at random."""
    model = models.create(Model(name, options=NETWORKS[name]), TASK, dtype=dtype)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        # Votes are small, so that classes are neither certain nor excluded.
        fan_in = 80 if "votes" in str(path) else np.prod(leaf.shape[:-1])
        low, high = {
            "kernel": (-2 / np.sqrt(fan_in), 2 / np.sqrt(fan_in)),
            "var": (0.5, 1.5),
            "scale": (0.8, 1.2),
        }.get(path[-1].key, (-0.2, 0.2))
        return jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)

    return model, *jax.tree_util.tree_map_with_path(draw, model.shapes)


IMAGES = jax.random.uniform(jax.random.key(0), (5, 6, 5, 1))
IMAGES = (IMAGES**2).repeat(4, axis=1).repeat(4, axis=2)
LABELS = jnp.array([2, 0, 1, 1, 2])


@every_network
def test_capsules_reconstruction_and_loss_are_the_papers(name):
    model, params, batch_stats = drawn(name)

    @jax.jit
    def compute(params: Any, batch_stats: Any) -> Any:
        run = functools.partial(model.apply, params, batch_stats, IMAGES)
        outputs, _ = run(train=False, labels=LABELS)
        frozen = frozenset(tree.layers(batch_stats))  # BatchNorm as in evaluation
        trained, _ = run(train=True, labels=LABELS, frozen=frozen)
        loss = model.loss(trained, IMAGES, LABELS)
        return outputs, trained, loss, model.feature_maps(params, batch_stats, IMAGES)

    outputs, trained, loss, maps = compute(params, batch_stats)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), (params, batch_stats))
    for place, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        of_image = {name: np.asarray(x[place], np.float64) for name, x in maps.items()}
        capsules = capsules_of(name, exact[0], exact[1], of_image)
        lengths = np.linalg.norm(capsules, axis=-1)
        in_training = decode(capsules, label, exact[0]["decoder"])
        in_evaluation = decode(capsules, lengths.argmax(), exact[0]["decoder"])
        ours = jax.tree.map(lambda x, place=place: x[place], (outputs, trained))
        for each in ours:
            np.testing.assert_allclose(each.extra["capsules"], capsules, atol=1e-5)
            np.testing.assert_allclose(each.extra["lengths"], lengths, atol=1e-5)
            np.testing.assert_allclose(
                each.logits, np.log(lengths / (1 - lengths)), atol=1e-4
            )
        for each, expected in zip(ours, (in_evaluation, in_training), strict=True):
            found = each.extra["reconstruction"]
            np.testing.assert_allclose(found.ravel(), expected, atol=1e-5)
        expected = loss_of(capsules, label, in_training, np.asarray(image))
        np.testing.assert_allclose(loss[place], expected, rtol=1e-5)
    # The drawn weights tell the images and the classes apart.
    assert np.std(outputs.extra["lengths"], axis=0).min() > 0.003
    assert np.ptp(outputs.extra["lengths"]) > 0.1


def test_gradients_flow_through_the_last_iteration_alone():
    """As if the couplings that routing has found were constants."""
    rng = np.random.default_rng(0)
    votes = rng.normal(size=(7, 2, 3, 4))
    weights = rng.normal(size=(2, 3, 4)).astype(np.float32)
    couplings = []
    for image in np.moveaxis(votes, 1, 0):
        b = np.zeros((7, 3))
        for _ in range(2):
            b = b + np.einsum(
                "ijd,jd->ij", image, squash(np.einsum("ij,ijd->jd", softmax(b), image))
            )
        couplings.append(softmax(b))
    fixed = jnp.asarray(np.stack(couplings, axis=1), jnp.float32)

    def constant(votes):
        return (capsnet.squash((fixed[..., None] * votes).sum(0)) * weights).sum()

    def routed(votes):
        return (capsnet.route(votes, 3) * weights).sum()

    ours, theirs = jax.jit(lambda x: (jax.grad(routed)(x), jax.grad(constant)(x)))(
        jnp.asarray(votes, jnp.float32)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@every_network
def test_an_empty_image_has_finite_gradients(name):
    """Without biases, its capsules are of length 0."""
    model, params, batch_stats = drawn(name)
    params = jax.tree.map(lambda x: x if x.ndim > 1 else 0 * x, params)
    batch_stats = jax.tree.map(jnp.zeros_like, batch_stats)

    def loss(params):
        images = jnp.zeros_like(IMAGES)
        outputs, _ = model.apply(params, batch_stats, images, train=False)
        return model.loss(outputs, images, LABELS).mean() + outputs.logits.mean()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)):
        assert np.isfinite(leaf).all()


@every_network
def test_in_bfloat16_capsules_are_float32(name):
    model, params, batch_stats = drawn(name, "bfloat16")
    apply = functools.partial(model.apply, train=False)
    outputs, _ = jax.eval_shape(apply, params, batch_stats, IMAGES)
    for each in (outputs.logits, *outputs.extra.values()):
        assert each.dtype == jnp.float32


@every_network
def test_label_smoothing_is_refused(name):
    phases = (Phase(), Phase(label_smoothing=0.1))
    config = Experiment(model=Model(name), phases=phases)
    with pytest.raises(
        ConfigError, match=r"phases\[1\].label_smoothing=0.1: .*" + name
    ):
        experiment.check(config)


@pytest.mark.parametrize(("name", "side"), [("capsnet", 17), ("efficient_capsnet", 11)])
def test_images_that_are_too_small_are_refused(name, side):
    enough, small = (
        models.create(Model(name), Task(("a", "b"), (28, size, 1)))
        for size in (side, side - 1)
    )
    assert tree.layers(enough.shapes[0])
    with pytest.raises(ConfigError, match=f"at least {side}x.*not 28x{side - 1}"):
        _ = small.shapes
