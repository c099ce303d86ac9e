"""Options for XLA are given only where they are known; programs are cached."""

import jax
import pytest

from mnist_jax.devices import compiler


@pytest.fixture(autouse=True)
def not_cached():
    compiler.compiler_options.cache_clear()
    yield
    compiler.compiler_options.cache_clear()


def test_options_are_given_where_they_are_known(monkeypatch):
    known = {"xla_cpu_enable_fast_math": False}
    for options, expected in ((known, known), ({"xla_cpu_no_such_option": ""}, {})):
        monkeypatch.setattr(compiler, "_CPU_OPTIONS", options)
        compiler.compiler_options.cache_clear()
        assert compiler.compiler_options() == expected
    monkeypatch.setattr(compiler, "_CPU_OPTIONS", known)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    compiler.compiler_options.cache_clear()
    assert compiler.compiler_options() == {}


@pytest.fixture
def updates(monkeypatch):
    """Collect the updates of JAX's settings instead of making them."""
    found = {}
    monkeypatch.setattr(jax.config, "update", found.__setitem__)
    return found


def pretend_settings(monkeypatch, folder, seconds):
    values = jax.config.values | {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": seconds,
    }
    monkeypatch.setattr(type(jax.config), "values", property(lambda self: values))


def test_programs_are_kept_in_the_cache_folder(updates, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pretend_settings(monkeypatch, None, 1.0)
    compiler.keep_compiled()
    folder = updates["jax_compilation_cache_dir"]
    assert folder == str(tmp_path / "mnist_jax" / "compiled")
    assert updates["jax_persistent_cache_min_compile_time_secs"] < 1


def test_jax_s_own_settings_take_precedence(updates, monkeypatch):
    pretend_settings(monkeypatch, "elsewhere", 5.0)
    compiler.keep_compiled()
    assert updates == {}
