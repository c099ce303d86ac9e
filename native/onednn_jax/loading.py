"""The library is loaded, checked and registered with XLA before its first use."""

import base64
import ctypes
import functools
import hashlib
import importlib.metadata
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from onednn_jax.calls import call, like
from onednn_jax.convolution import conv
from onednn_jax.pooling import max_pool

DISTRIBUTION = "onednn-jax"
_LIBRARY = "libonednn_jax.so"
_DNNL_DISTRIBUTION = "onednn-cpu-gomp"
_DNNL = "libdnnl.so.3"
_HANDLERS = (
    "conv_backward_images",
    "conv_backward_kernel",
    "conv_forward",
    "norm_apply",
    "norm_gradient",
    "norm_gradient_sums",
    "norm_moments",
    "pool_backward",
    "pool_forward",
)

_LOADING = threading.Lock()


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
    """Return whether every handler's results equal NumPy's in every bit."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2, shape).astype(np.float32)

    convolutions: list[tuple[Any, ...]] = [
        # Images, kernel, bias, gradient of the result, strides and groups.
        (draw(4, 6, 6, 3), draw(3, 3, 3, 16), draw(16), draw(4, 6, 6, 16), (1, 1), 1),
        (draw(2, 7, 5, 16), draw(3, 3, 16, 16), draw(16), draw(2, 4, 3, 16), (2, 2), 1),
        (draw(2, 7, 5, 16), draw(3, 3, 1, 16), draw(16), draw(2, 4, 5, 16), (2, 1), 16),
    ]
    pool = rng.permutation(140).reshape(1, 7, 5, 4).astype(np.float32), draw(1, 4, 3, 4)
    # A power of 2 as the number of places, by which means are divided.
    norm = [draw(32, 6) for _ in range(2)], [draw(6) for _ in range(5)]

    def ours(layers: Any, pool: Any, norm: Any) -> Any:
        results = []
        for (*arrays, gradient), (*_, strides, groups) in zip(
            layers, convolutions, strict=True
        ):
            run = functools.partial(conv, relu=True, strides=strides, groups=groups)
            out, backward = jax.vjp(run, *arrays)
            results.append((out, *backward(gradient)))
        out, backward = jax.vjp(lambda x: max_pool(x, 3, 2, "SAME"), pool[0])
        return [*results, (out, *backward(pool[1])), _norm(*norm)]

    # Compiled ahead of the call, as the caller may be tracing a function, and without
    # optimization, which would take longer than all the rest.
    arguments: Any = [layer[:4] for layer in convolutions], pool, norm[0]
    arguments = *jax.tree.map(lambda x: x.astype(jnp.dtype(dtype)), arguments), norm[1]
    options = {"xla_backend_optimization_level": "0"}
    jitted = jax.jit(lambda a, b, c, d: ours(a, b, c + d), compiler_options=options)
    found = jitted.lower(*arguments).compile()(*arguments)
    expected = [
        *(_plain_conv(*layer) for layer in convolutions),
        _plain_pool(*pool),
        _plain_norm(*norm[0], *norm[1]),
    ]
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return all((np.asarray(a).astype(np.float32) == b).all() for a, b in pairs)


def _plain_conv(
    images: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    gradient: np.ndarray,
    strides: tuple[int, int],
    groups: int,
) -> tuple[np.ndarray, ...]:
    """Return a convolution, padded by 1, with its ReLU, and its gradients."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y, by_padded = np.zeros_like(gradient) + bias, np.zeros_like(padded)
    by_kernel = np.zeros_like(kernel)

    def each() -> Iterator[tuple[Any, Any]]:
        """Yield the places that each number of the kernel is multiplied by."""
        for row, column in np.ndindex(kernel.shape[:2]):
            rows = slice(row, row + (y.shape[1] - 1) * strides[0] + 1, strides[0])
            columns = slice(
                column, column + (y.shape[2] - 1) * strides[1] + 1, strides[1]
            )
            yield (row, column), (slice(None), rows, columns)

    def split(array: np.ndarray) -> np.ndarray:
        return array.reshape(*array.shape[:-1], groups, -1)

    for at, places in each():
        terms = np.einsum("nhwgc,cgd->nhwgd", split(padded[places]), split(kernel[at]))
        y += terms.reshape(y.shape)
    through = np.where(y > 0, gradient, 0)
    for at, places in each():
        terms = np.einsum("nhwgd,cgd->nhwgc", split(through), split(kernel[at]))
        by_padded[places] += terms.reshape(padded[places].shape)
        terms = np.einsum("nhwgc,nhwgd->cgd", split(padded[places]), split(through))
        by_kernel[at] = terms.reshape(kernel[at].shape)
    return (
        np.maximum(y, 0),
        by_padded[:, 1:-1, 1:-1],
        by_kernel,
        through.sum((0, 1, 2)),
    )


def _plain_pool(images: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the maxima of 3 x 3 with stride 2, padded by 1, and their gradient."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    out, by_padded = np.zeros_like(gradient), np.zeros_like(padded)
    for n, row, column, channel in np.ndindex(out.shape):
        window = (
            n,
            slice(2 * row, 2 * row + 3),
            slice(2 * column, 2 * column + 3),
            channel,
        )
        out[n, row, column, channel] = padded[window].max()
        here = padded[window] == padded[window].max()
        by_padded[window] += here * gradient[n, row, column, channel]
    return out, by_padded[:, 1:-1, 1:-1]


def _norm(x: jax.Array, gradient: jax.Array, *channels: jax.Array) -> tuple[Any, ...]:
    """Call the handlers of BatchNorm."""
    factor, shift = channels[:2]
    arrays, pair = (x, gradient, *channels), (like(factor), like(factor))
    return (
        call("norm_moments", pair, x),
        call("norm_apply", like(x), x, factor, shift, relu=True),
        call("norm_gradient_sums", pair, *arrays[:5], relu=True),
        call("norm_gradient", like(x), *arrays, relu=True),
    )


def _plain_norm(
    x: np.ndarray, gradient: np.ndarray, *channels: np.ndarray
) -> tuple[Any, ...]:
    factor, shift, center, slope, constant = channels
    y = np.maximum(x * factor + shift, 0)
    through = np.where(y > 0, gradient, 0)
    return (
        (x.mean(0), x.var(0)),
        y,
        (through.sum(0), (through * (x - center)).sum(0)),
        factor * through + slope * (x - center) + constant,
    )
