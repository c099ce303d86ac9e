"""What XLA is told when the step is compiled."""

import functools

import jax

# jaxlib 0.10 gives convolutions to a library that uses one core, YNNPACK; Eigen, which
# it was before, uses all. With it the double CNN's step takes 168 ms, without 116.
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
