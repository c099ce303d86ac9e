"""conv equals XLA's convolution, bias and ReLU, in values and in gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onednn_jax
import pytest
from laws import check_conv, draw, floats, plain_conv

SHAPES = [
    # Images, kernel and padding, of the networks.
    ((86, 28, 28, 1), (5, 5, 1, 32), "SAME"),
    ((4, 28, 28, 32), (5, 5, 32, 32), "SAME"),
    ((8, 14, 14, 32), (3, 3, 32, 64), "SAME"),
    ((6, 28, 28, 1), (3, 3, 1, 32), "SAME"),
    ((16, 7, 7, 128), (3, 3, 128, 128), "SAME"),
    ((6, 32, 32, 1), (5, 5, 1, 6), "VALID"),
    ((86, 14, 14, 6), (5, 5, 6, 16), "VALID"),
    ((4, 32, 32, 3), (3, 3, 3, 64), "SAME"),
    ((2, 4, 4, 512), (3, 3, 512, 512), "SAME"),
    ((16, 2, 2, 512), (3, 3, 512, 512), "SAME"),
    # Odd ones.
    ((3, 9, 7, 5), (2, 2, 5, 7), "SAME"),
    ((3, 9, 7, 5), (4, 2, 5, 16), "SAME"),
    ((3, 9, 7, 5), (4, 2, 5, 16), "SAME_LOWER"),
    ((2, 6, 6, 3), (3, 3, 3, 4), ((0, 2), (1, 0))),
    ((2, 6, 6, 16), (3, 3, 16, 16), ((5, 0), (0, 7))),  # wider than the kernel
    ((5, 8, 8, 16), (1, 1, 16, 32), "SAME"),
    ((2, 5, 5, 3), (1, 1, 3, 1), ((1, 1), (2, 0))),
    ((1, 28, 28, 32), (5, 5, 32, 32), "SAME"),  # fewer images than threads
    ((7, 16, 16, 16), (3, 3, 16, 16), "SAME"),  # shares of different sizes
    ((2, 5, 5, 3), (5, 5, 3, 4), "VALID"),  # one number of each image
    ((2, 3, 4, 2), (7, 5, 2, 3), "SAME"),  # a kernel larger than the image
    ((2, 1, 30, 4), (1, 9, 4, 4), "SAME"),
    # Narrow images, laid side by side: shares of different sizes, a wider kernel, and
    # paddings that keep them apart or do not.
    ((7, 3, 4, 16), (3, 3, 16, 64), "SAME"),
    ((33, 4, 2, 16), (5, 5, 16, 32), "SAME"),
    ((5, 4, 4, 8), (3, 3, 8, 16), "VALID"),
    ((5, 4, 4, 8), (3, 2, 8, 16), "SAME"),
    ((5, 4, 3, 8), (3, 5, 8, 16), ((2, 0), (2, 2))),
    # Kernels large enough to be shared among threads.
    ((9, 3, 3, 128), (3, 3, 128, 192), "SAME"),
    ((40, 8, 8, 192), (3, 3, 192, 128), "SAME"),
    ((9, 5, 5, 130), (3, 3, 130, 150), "SAME"),
]


@pytest.mark.parametrize("images, kernel, padding", SHAPES)
def test_shapes(
    images: tuple[int, ...], kernel: tuple[int, ...], padding: Any, dtype: str
) -> None:
    check_conv(images, kernel, padding, dtype)


WINDOWS = [
    # Images, kernel, padding, strides and groups, of the networks.
    ((4, 28, 28, 32), (3, 3, 32, 64), "SAME", (2, 2), 1),
    ((4, 14, 14, 16), (1, 1, 16, 32), "SAME", (2, 2), 1),
    ((2, 20, 20, 16), (9, 9, 16, 16), "VALID", (2, 2), 1),
    ((5, 14, 14, 128), (3, 3, 1, 128), "SAME", (1, 1), 128),
    ((3, 9, 9, 24), (3, 3, 1, 24), "SAME", (2, 2), 24),
    # Odd ones.
    ((3, 9, 7, 5), (2, 4, 5, 7), "SAME", (2, 3), 1),
    ((3, 9, 7, 5), (2, 4, 5, 7), "SAME_LOWER", (3, 2), 1),
    ((2, 8, 6, 3), (1, 1, 3, 4), "SAME", (3, 3), 1),
    ((2, 8, 6, 3), (2, 2, 3, 4), ((0, 3), (1, 2)), (3, 1), 1),
    ((2, 11, 10, 4), (3, 3, 4, 8), "VALID", (3, 3), 1),  # a row and columns are left
    ((7, 1, 1, 8), (3, 3, 8, 8), ((1, 1), (1, 1)), (2, 2), 1),
    ((3, 7, 2, 8), (4, 5, 2, 12), "SAME", (3, 3), 4),
    ((7, 4, 4, 16), (3, 3, 16, 32), "SAME", (2, 2), 1),
    ((3, 6, 5, 8), (3, 3, 4, 6), "SAME", (1, 1), 2),
    ((3, 6, 5, 6), (3, 2, 3, 10), "SAME", (2, 1), 2),
    ((2, 6, 6, 5), (3, 3, 1, 10), "SAME", (1, 1), 5),  # two outputs of each channel
    ((2, 7, 7, 6), (5, 5, 1, 6), "VALID", (1, 1), 6),
    ((5, 4, 4, 130), (3, 3, 1, 130), "SAME", (1, 1), 130),  # narrow, with groups
    ((9, 3, 3, 130), (3, 3, 65, 260), "SAME", (1, 1), 2),
]


@pytest.mark.parametrize("images, kernel, padding, strides, groups", WINDOWS)
def test_strides_and_groups(
    images: tuple[int, ...],
    kernel: tuple[int, ...],
    padding: Any,
    strides: tuple[int, int],
    groups: int,
    dtype: str,
) -> None:
    check_conv(images, kernel, padding, dtype, strides=strides, groups=groups)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_bias_and_relu_are_optional(bias: bool, relu: bool, dtype: str) -> None:
    check_conv((3, 6, 6, 4), (3, 3, 4, 8), "SAME", dtype, bias, relu)


@pytest.mark.parametrize("groups", [1, 4])
def test_empty_batch(groups: int, dtype: str) -> None:
    """Nothing comes out, and nothing comes back but zeros for kernel and bias."""
    images = jnp.zeros((0, 8, 8, 4), dtype)
    kernel = jnp.ones((3, 3, 4 // groups, 4), dtype)

    @jax.jit
    def run(*arrays: jax.Array) -> Any:
        out, backward = jax.vjp(
            lambda x, k, b: onednn_jax.conv(x, k, b, groups=groups), *arrays
        )
        return out, backward(out)

    out, gradients = run(images, kernel, jnp.ones(4))
    assert out.shape == (0, 8, 8, 4) and gradients[0].shape == images.shape
    assert not gradients[1].any() and not gradients[2].any()
    assert gradients[1].shape == kernel.shape and gradients[2].shape == (4,)


STATIC = "padding", "relu", "strides", "groups"
OURS = jax.jit(onednn_jax.conv, static_argnames=STATIC)
THEIRS = jax.jit(plain_conv, static_argnames=STATIC)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["images", "kernel", "bias"])
def test_no_nan_is_lost(place: str, value: float, dtype: str) -> None:
    """oneDNN's own ReLU makes 0 of a NaN, and a training that diverged looks well."""
    put: dict[str, dict[Any, float]] = {
        "images": {(1, 3, 3, 2): value},
        "kernel": {(1, 1, 2, 5): value},
        "bias": {5: value},
    }
    put = {name: put[name] if name == place else {} for name in put}
    images = draw(0, 2, 6, 6, 16, dtype=dtype, put=put["images"])
    kernel = draw(1, 3, 3, 16, 32, dtype=dtype, put=put["kernel"])
    bias = draw(2, 32, put=put["bias"])
    singles = [jnp.asarray(floats(x)) for x in (images, kernel, bias)]
    for relu in (False, True):
        ours = floats(OURS(images, kernel, bias, relu=relu))
        theirs = floats(THEIRS(*singles, relu=relu))
        for kind in (np.isnan, np.isposinf, np.isneginf):
            assert (kind(ours) == kind(theirs)).all()
        assert not np.isfinite(ours).all() or (relu and value < 0)


def test_nan_stays_in_its_group_and_windows(dtype: str) -> None:
    images = draw(0, 1, 6, 6, 32, dtype=dtype, put={(0, 3, 3, 2): np.nan})
    kernel = draw(1, 3, 3, 1, 32, dtype=dtype)
    ours = np.isnan(floats(OURS(images, kernel, relu=True, strides=(2, 2), groups=32)))
    expected = np.zeros((1, 3, 3, 32), bool)
    expected[0, 1, 1, 2] = True  # whose windows are 2 apart, from row 2 to 4
    np.testing.assert_array_equal(ours, expected)


def test_nan_comes_back(dtype: str) -> None:
    """A NaN in the gradient of the result is in all that it enters."""
    images, kernel = draw(0, 2, 6, 6, 3, dtype=dtype), draw(1, 3, 3, 3, 4, dtype=dtype)
    gradient = draw(2, 2, 6, 6, 4, dtype=dtype, put={(1, 2, 2, 0): np.nan})
    _, backward = jax.vjp(onednn_jax.conv, images, kernel, jnp.zeros(4))
    by_images, by_kernel, by_bias = map(floats, backward(gradient))
    assert np.isnan(by_images[1, 1:4, 1:4]).all() and not np.isnan(by_images[0]).any()
    for array in (by_kernel, by_bias):
        assert np.isnan(array[..., 0]).all() and not np.isnan(array[..., 1:]).any()


@pytest.mark.parametrize("size", [6, 3])  # the latter are laid side by side
def test_one_bad_image_leaves_the_others(size: int) -> None:
    kernel, shape = draw(1, 3, 3, 3, 4), (4, size, size, 3)
    ours = floats(OURS(draw(0, *shape, put={2: np.nan}), kernel, relu=True))
    theirs = floats(THEIRS(draw(0, *shape), kernel, relu=True))
    assert np.isnan(ours[2]).all()
    np.testing.assert_allclose(ours[[0, 1, 3]], theirs[[0, 1, 3]], atol=1e-4)


@pytest.mark.parametrize(
    "error, wrong, said",
    [
        (TypeError, {"images": "float16", "kernel": "float16"}, "float16"),
        (TypeError, {"kernel": "bfloat16"}, "bfloat16"),
        (TypeError, {"images": "int32"}, "int32"),
        (TypeError, {"bias": "int32"}, "int32"),
        (ValueError, {"images": (6, 6, 3)}, "(6, 6, 3)"),
        (ValueError, {"kernel": (3, 3, 4)}, "(3, 3, 4)"),
        (ValueError, {"kernel": (3, 3, 2, 4)}, "3, 2, 4"),
        (ValueError, {"bias": (5,)}, "(5,)"),
        (ValueError, {"kernel": (3, 7, 3, 4), "padding": "VALID"}, "(3, 7, "),
        (ValueError, {"padding": "FULL"}, "FULL"),
        (ValueError, {"padding": ((1, -1), (1, 1))}, "-1"),
        (ValueError, {"padding": ((1, 1),)}, "(1, 1)"),
        (ValueError, {"images": (2, 6, 6, 0), "kernel": (3, 3, 0, 4)}, "6, 0)"),
        (ValueError, {"kernel": (3, 3, 3, 0), "bias": (0,)}, "3, 0)"),
        (ValueError, {"images": (2, 0, 6, 3)}, "2, 0,"),
        (ValueError, {"groups": 2}, "groups=2"),  # of 3 channels in
        (ValueError, {"groups": 3, "kernel": (3, 3, 1, 4)}, "groups=3"),  # 4 out
        (ValueError, {"groups": 0}, "groups=0"),
        (ValueError, {"images": (2, 6, 6, 4), "groups": 2}, "c / 2"),
        (ValueError, {"strides": (1, 0)}, "(1, 0)"),
    ],
)
def test_wrong_arguments(
    error: type[Exception], wrong: dict[str, Any], said: str
) -> None:
    """Shapes and types other than these."""
    right = {"images": (2, 6, 6, 3), "kernel": (3, 3, 3, 4), "bias": (4,)}
    arrays = []
    for name, shape in right.items():
        given = wrong.get(name, shape)
        is_type = isinstance(given, str)
        arrays.append(jnp.zeros(*((shape, given) if is_type else (given, "float32"))))
    with pytest.raises(error) as raised:
        names = "padding", "strides", "groups"
        onednn_jax.conv(
            *arrays, **{name: wrong[name] for name in names if name in wrong}
        )
    assert said in str(raised.value)
