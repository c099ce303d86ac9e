"""Compiler options and the cache of compiled programs."""

import functools

import jax

from mnist_jax import files

# jaxlib 0.10 computes convolutions by YNNPACK, on one core. Eigen, used before that,
# runs on all cores and trains the double CNN 1.9 times as fast.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}


@functools.cache
def compiler_options() -> dict[str, str]:
    """Return the options for `jax.jit` that make this backend fast, if it has them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return dict(_CPU_OPTIONS)


def short_program_options() -> dict[str, str]:
    """Return the options for `jax.jit` of programs that run for a moment.

    They are not optimized: the program that draws the weights compiles in a seventh of
    the time and draws the same weights.
    """
    on_cpu = jax.default_backend() == "cpu"
    return {"xla_backend_optimization_level": "0"} if on_cpu else {}


def keep_compiled() -> None:
    """Keep compiled programs for later processes, in `compiled` of the cache folder.

    JAX's own settings take precedence, such as the variables JAX_COMPILATION_CACHE_DIR
    and JAX_ENABLE_COMPILATION_CACHE.
    """
    settings = jax.config.values
    if not settings["jax_compilation_cache_dir"]:
        folder = files.cache_folder() / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if settings["jax_persistent_cache_min_compile_time_secs"] == 1:  # JAX's default
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
