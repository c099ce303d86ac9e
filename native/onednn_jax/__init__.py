"""Convolutions and max pools by oneDNN, as operations of a JAX program on a CPU.

    import onednn_jax

    onednn_jax.load()  # once, before the first use
    y = onednn_jax.conv(images, kernel, bias, padding="SAME", relu=True)
    y = onednn_jax.max_pool(y, 2)

Both are differentiable in reverse mode and work under `jit`, `scan`, `vmap`, `pmap`
and in several processes. Under `jit` over several devices XLA cannot divide them: each
device then computes the whole batch; use `pmap` or `shard_map`.

oneDNN: https://github.com/uxlfoundation/oneDNN
"""

import base64
import ctypes
import functools
import hashlib
import importlib.metadata
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

__all__ = ["Unavailable", "conv", "load", "max_pool"]

DISTRIBUTION = "onednn-jax"
_LIBRARY = "libonednn_jax.so"
_DNNL_DISTRIBUTION = "onednn-cpu-gomp"
_DNNL = "libdnnl.so.3"
_HANDLERS = (
    "conv_forward",
    "conv_backward_images",
    "conv_backward_kernel",
    "pool_forward",
    "pool_backward",
)

_LOADING = threading.Lock()

Padding = str | Sequence[tuple[int, int]]


class Unavailable(Exception):
    """oneDNN cannot be used here; the message says why, and how to fix it."""


def load(dtype: DTypeLike = jnp.float32) -> str:
    """Load oneDNN, check that it computes what XLA does, and return its version.

    Calls after the first cost nothing.

    Args:
        dtype: of the computation, float32 or bfloat16; not all processors have the
            latter.

    Raises:
        Unavailable: the library is missing, damaged, for another processor or for
            another jaxlib, or gives wrong results.
    """
    name = jnp.dtype(dtype).name
    if name not in ("float32", "bfloat16"):
        raise Unavailable(f"it computes in float32 and bfloat16, not in {name}")
    with _LOADING:
        version = _register()
        _check_results(name)
    return version


@functools.cache
def _register() -> str:
    """Load the shared libraries, give XLA the handlers, return oneDNN's version."""
    path = _check_file(DISTRIBUTION, _LIBRARY, "pip install --force-reinstall ./native")
    dnnl = _check_file(
        _DNNL_DISTRIBUTION,
        _DNNL,
        f"pip install --force-reinstall {_DNNL_DISTRIBUTION}",
        digest=False,
    )
    try:
        ctypes.CDLL(str(dnnl))  # the next one needs it, but not its path
        library = ctypes.CDLL(str(path))
        handlers = {name: getattr(library, name) for name in _HANDLERS}
        library.onednn_jax_version.restype = ctypes.c_char_p
        library.onednn_jax_jaxlib.restype = ctypes.c_char_p
        built = library.onednn_jax_jaxlib().decode()
        version = library.onednn_jax_version().decode()
    except (OSError, AttributeError) as error:
        raise Unavailable(f"its library cannot be loaded ({error})") from error
    here = importlib.metadata.version("jaxlib")
    # A handler that asks for newer functions keeps the CPU backend from starting.
    if _numbers(here) < _numbers(built):
        raise Unavailable(f"it was built for jaxlib {built} or newer, this is {here}")
    try:
        for name, handler in handlers.items():
            jax.ffi.register_ffi_target(
                f"onednn_jax_{name}", jax.ffi.pycapsule(handler), platform="cpu"
            )
    except Exception as error:  # whose type depends on the version of jaxlib
        raise Unavailable(f"jaxlib {here} rejects its handlers ({error})") from error
    return version


def _check_file(
    distribution: str, name: str, remedy: str, *, digest: bool = True
) -> Path:
    """Return the path of an installed library after checking that it is unchanged.

    Loading a truncated library would kill the process.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable(f"{distribution} is not installed") from None
    for file in files:
        if file.name != name:
            continue
        path = Path(str(file.locate())).resolve()
        if not path.is_file():
            raise Unavailable(f"{path} is missing; {remedy}")
        if file.size is not None and path.stat().st_size != file.size:
            raise Unavailable(f"{path} is damaged (its size is wrong); {remedy}")
        if digest and file.hash:
            found = hashlib.new(file.hash.mode, path.read_bytes()).digest()
            if base64.urlsafe_b64encode(found).decode().rstrip("=") != file.hash.value:
                raise Unavailable(
                    f"{path} is damaged (its checksum is wrong); {remedy}"
                )
        return path
    raise Unavailable(f"{distribution} has no {name}; {remedy}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


@functools.cache
def _check_results(dtype: str) -> None:
    """Compare every handler with XLA, on integers, which need no rounding."""
    try:
        # The handlers are for a CPU, which may not be the default device.
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            right = _agree(dtype)
    except (RuntimeError, jax.errors.JaxRuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise Unavailable(f"it cannot compute in {dtype} here ({reason})") from error
    if not right:
        raise Unavailable(f"it computes {dtype} wrongly on this processor")


def _agree(dtype: str) -> bool:
    """Return whether conv, max_pool and their gradients equal XLA's in every bit."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2, shape).astype(np.float32)

    layer = draw(4, 6, 6, 3), draw(3, 3, 3, 16), draw(16)
    factor = draw(4, 6, 6, 16)
    apart = rng.permutation(144).reshape(1, 6, 6, 4).astype(np.float32)
    pooled = draw(1, 3, 3, 4)

    def plain_conv(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        axes = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=axes
        )
        return jax.nn.relu(y + bias[None, None, None])

    def plain_pool(images: jax.Array) -> jax.Array:
        window = (1, 2, 2, 1)
        return lax.reduce_window(images, -jnp.inf, lax.max, window, window, "VALID")

    def results(conv: Any, pool: Any, dtype: DTypeLike, arrays: Any) -> Any:
        layer, factor, apart, pooled = jax.tree.map(lambda x: x.astype(dtype), arrays)
        out, backward = jax.vjp(conv, *layer)
        largest, back = jax.vjp(pool, apart)
        every = out, backward(factor), largest, back(pooled)
        return [x.astype(jnp.float32) for x in jax.tree.leaves(every)]

    def agree(arrays: Any) -> jax.Array:
        ours = results(
            functools.partial(conv, relu=True), lambda x: max_pool(x, 2), dtype, arrays
        )
        theirs = results(plain_conv, plain_pool, jnp.float32, arrays)
        return jnp.array([(a == b).all() for a, b in zip(ours, theirs, strict=True)])

    # Compiled ahead of the call, as the caller may be tracing a function, and without
    # optimization, which would take longer than all the rest.
    arrays = layer, factor, apart, pooled
    options = {"xla_backend_optimization_level": "0"}
    compiled = jax.jit(agree, compiler_options=options).lower(arrays).compile()
    return bool(np.asarray(compiled(arrays)).all())


# -- convolution


def conv(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    padding: Padding = "SAME",
    relu: bool = False,
) -> jax.Array:
    """Convolve with stride 1, add a bias, and take the ReLU, in one pass.

    Args:
        images: float32 or bfloat16 [batch, height, width, channels_in].
        kernel: of the same type, [kernel_height, kernel_width, channels_in,
            channels_out].
        bias: [channels_out]; 0 if none is given.
        padding: "SAME", "VALID", or the padding before and after height and width.
        relu: whether negative results become 0. A NaN stays one.

    Returns:
        [batch, height_out, width_out, channels_out], of the images' type.

    Raises:
        TypeError: another type, or two types.
        ValueError: shapes that do not fit, or negative padding.
    """
    images, kernel = jnp.asarray(images), jnp.asarray(kernel)
    if images.dtype not in (jnp.float32, jnp.bfloat16) or kernel.dtype != images.dtype:
        raise TypeError(
            "images and kernel must both be float32 or both bfloat16, got "
            f"{images.dtype} and {kernel.dtype}"
        )
    if images.ndim != 4 or kernel.ndim != 4 or images.shape[3] != kernel.shape[2]:
        raise ValueError(
            "images must be [n, h, w, c] and kernel [h, w, c, d], got "
            f"{images.shape} and {kernel.shape}"
        )
    # A batch may be empty; what is left of the rest would be nothing but the bias.
    if 0 in (*images.shape[1:], *kernel.shape):
        raise ValueError(
            "images and kernel must not be empty, got "
            f"{images.shape} and {kernel.shape}"
        )
    bias = (
        jnp.zeros(kernel.shape[3:], jnp.float32) if bias is None else jnp.asarray(bias)
    )
    if bias.dtype not in (jnp.float32, jnp.bfloat16):
        raise TypeError(f"bias must be float32 or bfloat16, got {bias.dtype}")
    if bias.shape != kernel.shape[3:]:
        raise ValueError(f"bias must be {kernel.shape[3:]}, got {bias.shape}")
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "SAME_LOWER", "VALID"):
            raise ValueError(
                f"padding must be SAME, SAME_LOWER or VALID, got {padding}"
            )
        padding = lax.padtype_to_pads(
            images.shape[1:3], kernel.shape[:2], (1, 1), padding.upper()
        )
    pads = tuple(int(pad) for pair in padding for pad in pair)
    if len(pads) != 4 or min(pads) < 0:
        raise ValueError(
            f"padding must be two pairs of numbers that are not negative, got {padding}"
        )
    return _conv(images, kernel, bias, pads, relu)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _conv(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    pads: tuple[int, ...],
    relu: bool,
) -> jax.Array:
    top, bottom, left, right = pads
    count, height, width, _ = images.shape
    rows, columns, _, channels = kernel.shape
    shape = (
        count,
        height + top + bottom - rows + 1,
        width + left + right - columns + 1,
        channels,
    )
    if min(shape[1:3]) < 1:
        raise ValueError(
            f"a kernel {kernel.shape} is larger than images {images.shape} with "
            f"padding {((top, bottom), (left, right))}"
        )
    return _call(
        "conv_forward",
        jax.ShapeDtypeStruct(shape, images.dtype),
        images,
        kernel,
        bias.astype(jnp.float32),
        pads=np.array(pads, np.int64),
        relu=relu,
    )


def _conv_forward(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    pads: tuple[int, ...],
    relu: bool,
) -> tuple[jax.Array, tuple[Any, ...]]:
    out: Any = _conv(images, kernel, bias, pads, relu)
    return out, (images, kernel, bias, out if relu else None)


def _conv_backward(
    pads: tuple[int, ...], relu: bool, kept: tuple[Any, ...], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    images, kernel, bias, out = kept
    if relu:
        gradient = jnp.where(out > 0, gradient, jnp.zeros_like(gradient))
    attributes = {"pads": np.array(pads, np.int64)}
    # Two calls: XLA leaves out the one whose result nobody needs.
    by_images = _call(
        "conv_backward_images", _like(images), gradient, kernel, **attributes
    )
    by_kernel, by_bias = _call(
        "conv_backward_kernel",
        (_like(kernel, jnp.float32), _like(bias, jnp.float32)),
        images,
        gradient,
        **attributes,
    )
    return by_images, by_kernel.astype(kernel.dtype), by_bias.astype(bias.dtype)


_conv.defvjp(_conv_forward, _conv_backward)


# -- max pool


def max_pool(images: jax.Array, size: int) -> jax.Array:
    """Take the largest of windows of `size` x `size` that do not overlap.

    Rows and columns beyond the last whole window are left out. Of equal largest values
    the first one gets the gradient. A NaN is larger than every number.

    Args:
        images: float32 or bfloat16 [batch, height, width, channels].
        size: at most the height and the width, and at most 15.

    Returns:
        [batch, height // size, width // size, channels].

    Raises:
        TypeError: another type.
        ValueError: a shape or a size that does not fit.
    """
    images = jnp.asarray(images)
    if images.dtype not in (jnp.float32, jnp.bfloat16):
        raise TypeError(f"images must be float32 or bfloat16, got {images.dtype}")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images must be [n, h, w, c], not empty, got {images.shape}")
    if not 1 <= size <= min(*images.shape[1:3], 15):
        raise ValueError(f"windows of {size} x {size} do not fit images {images.shape}")
    return _max_pool(images, size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(images: jax.Array, size: int) -> jax.Array:
    return _max_pool_forward(images, size)[0]


def _max_pool_forward(images: jax.Array, size: int) -> tuple[jax.Array, Any]:
    count, height, width, channels = images.shape
    shape = (count, height // size, width // size, channels)
    out, where = _call(
        "pool_forward",
        (
            jax.ShapeDtypeStruct(shape, images.dtype),
            jax.ShapeDtypeStruct(shape, jnp.uint8),
        ),
        images,
        size=np.int64(size),
    )
    # Nothing but the shape of the images is needed of them.
    return out, (where, jnp.zeros((*images.shape, 0), images.dtype))


def _max_pool_backward(
    size: int, kept: tuple[Any, ...], gradient: jax.Array
) -> tuple[jax.Array]:
    where, like = kept
    images = jax.ShapeDtypeStruct(like.shape[:-1], like.dtype)
    return (_call("pool_backward", images, gradient, where, size=np.int64(size)),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _call(name: str, out: Any, *arguments: jax.Array, **attributes: Any) -> Any:
    call = jax.ffi.ffi_call(f"onednn_jax_{name}", out, vmap_method="sequential")
    return call(*arguments, **attributes)


def _like(array: jax.Array, dtype: DTypeLike | None = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, dtype or array.dtype)
