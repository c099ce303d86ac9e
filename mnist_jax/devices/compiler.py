"""What XLA is told when the step is compiled, and where its programs are kept."""

import functools

import jax

from mnist_jax import files

# jaxlib 0.10 gives convolutions to YNNPACK, which uses one core; Eigen, to which they
# went before, uses all, and trains the double CNN 1.9 times as fast.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}


@functools.cache
def compiler_options() -> dict[str, str]:
    """Return the options for `jax.jit` that make this backend fast.

    Options that this version of jaxlib does not know are left out: they belong to
    others, older or newer.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return dict(_CPU_OPTIONS)


def keep_compiled() -> None:
    """Keep compiled programs for later processes, in `compiled` of the cache folder.

    JAX's own settings come first: --jax_compilation_cache_dir, or the variable
    JAX_COMPILATION_CACHE_DIR, names another folder, and
    --jax_enable_compilation_cache=false keeps nothing.
    """
    settings = jax.config.values
    if not settings["jax_compilation_cache_dir"]:
        folder = files.cache_folder() / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if settings["jax_persistent_cache_min_compile_time_secs"] == 1:  # JAX's default
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
