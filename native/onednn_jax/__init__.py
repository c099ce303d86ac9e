"""Convolutions, max pools and BatchNorm as operations of a JAX program on a CPU.

    import onednn_jax

    onednn_jax.load()  # once, before the first use
    y = onednn_jax.conv(images, kernel, bias, strides=(2, 2))
    y, mean, var = onednn_jax.batch_norm(y, scale, bias, epsilon=1e-3, relu=True)
    y = onednn_jax.max_pool(y, 3, 2, "SAME")

All are differentiable in reverse mode and work under `jit`, `scan`, `vmap`, `pmap`
and in several processes. Under `jit` over several devices XLA cannot divide them: each
device then computes the whole batch; use `pmap` or `shard_map`.

oneDNN: https://github.com/uxlfoundation/oneDNN
"""

from onednn_jax.convolution import conv
from onednn_jax.loading import Unavailable, load
from onednn_jax.normalization import batch_norm, scale_shift
from onednn_jax.pooling import max_pool

__all__ = ["Unavailable", "batch_norm", "conv", "load", "max_pool", "scale_shift"]
