"""Options for XLA are given only where they are known."""

import contextlib
import os
import zlib

import jax
import numpy as np
import pytest
import zstandard

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


@pytest.fixture
def entry(compiled):
    """The contents of a file in which JAX keeps a program."""

    def whole(x):
        return x + 1

    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    jax.config.update(name, 0.0)
    try:
        jax.jit(whole)(0.0)
    finally:
        jax.config.update(name, before)
    path, *_ = compiled.glob("jit_whole-*-cache")
    return path.read_bytes()


COMPRESSED = {"JAX's": None, "zlib": zlib.compress, "zstandard": zstandard.compress}


@pytest.mark.parametrize("compress", COMPRESSED.values(), ids=COMPRESSED)
def test_programs_that_were_not_completely_written_go(
    compress, entry, settings, monkeypatch, tmp_path
):
    entry = compress(b"a program" * 99) if compress else entry
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "mnist_jax" / "compiled"
    folder.mkdir(parents=True)

    def left(**contents):
        for name, content in contents.items():
            (folder / f"{name}-cache").write_bytes(content)
        with compilation_cache(None, 1.0):
            compiler.keep_compiled()
        return {path.name.removesuffix("-cache") for path in folder.glob("*-cache")}

    assert left(whole=entry, cut=entry[:-1], empty=b"") == {"whole"}
    assert left(later=entry[: len(entry) // 2]) == {"whole"}
    # What was checked is not read again.
    os.utime(folder / "whole-cache", (0, 0))
    monkeypatch.setattr(compiler, "_is_complete", lambda _: pytest.fail("read"))
    assert left() == {"whole"}


def test_programs_that_jax_cannot_read_either_are_left_alone(monkeypatch):
    def is_not_there(name):
        raise ImportError(name)

    cut = zstandard.compress(b"a program")[:-1]
    assert not compiler._is_complete(cut)
    monkeypatch.setattr(compiler.importlib, "import_module", is_not_there)
    assert compiler._is_complete(cut)


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
