"""Options for XLA are given only where they are known."""

import contextlib

import jax
import numpy as np
import pytest

from mnist_jax.devices import compiler


@pytest.fixture(autouse=True)
def asked_anew():
    """The answer is kept for the process: here each test asks anew."""
    compiler.compiler_options.cache_clear()
    yield
    compiler.compiler_options.cache_clear()


def test_what_is_returned_compiles_and_changes_nothing():
    options = compiler.compiler_options()
    double = jax.jit(lambda x: 2 * x, compiler_options=options)
    assert float(double(np.float32(3))) == 6


def test_an_unknown_option_is_left_out(monkeypatch):
    monkeypatch.setattr(compiler, "_CPU_OPTIONS", {"xla_cpu_no_such_option": ""})
    assert compiler.compiler_options() == {}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options of the CPU")
def test_a_known_option_is_returned_and_cannot_be_changed_by_who_gets_it(monkeypatch):
    known = {"xla_cpu_enable_fast_math": False}
    monkeypatch.setattr(compiler, "_CPU_OPTIONS", known)
    options = compiler.compiler_options()
    assert options == known and options is not known


def test_other_backends_are_told_nothing(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler.compiler_options() == {}


# -- where compiled programs are kept


@pytest.fixture
def settings(monkeypatch):
    """What JAX is told, instead of telling it."""
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    return told


def test_programs_are_kept_in_the_cache_folder(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with compilation_cache(None, 1.0):
        compiler.keep_compiled()
    folder = settings["jax_compilation_cache_dir"]
    assert folder == str(tmp_path / "mnist_jax" / "compiled")
    assert settings["jax_persistent_cache_min_compile_time_secs"] < 1


def test_jax_s_own_settings_come_first(settings):
    with compilation_cache("elsewhere", 5.0):
        compiler.keep_compiled()
    assert settings == {}


@contextlib.contextmanager
def compilation_cache(folder, seconds):
    """Have JAX's settings be these."""
    values = jax.config.values | {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": seconds,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(jax.config), "values", property(lambda self: values))
        yield
