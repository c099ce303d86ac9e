"""load() works or says why not, whatever is installed; and no process ever crashes."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import onednn_jax
import pytest
from laws import plain_conv, plain_pool
from onednn_jax import calls, loading


def files_of(distribution: str) -> dict[str, Path]:
    """Where an installed file is, by where it lies beside the packages."""
    files = importlib.metadata.files(distribution) or []
    return {str(file): Path(str(file.locate())).resolve() for file in files}


DNNL, DNNL_PATH = next(
    item
    for item in files_of("onednn-cpu-gomp").items()
    if item[0].endswith("dnnl.so.3")
)
OURS = "onednn_jax/libonednn_jax.so"


def copy(site: Path) -> Path:
    """Lay out what load() looks at as an environment does."""
    for distribution in ("onednn-jax", "onednn-cpu-gomp"):
        for name, path in files_of(distribution).items():
            target = site / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name == DNNL:
                target.symlink_to(path)
            elif name == OURS or name.endswith("/RECORD"):
                shutil.copyfile(path, target)
    return site


def write(site: Path, name: str, content: bytes) -> None:
    (site / name).unlink()  # a link must not be followed
    (site / name).write_bytes(content)


def truncate(site: Path, name: str) -> None:
    content = (site / name).read_bytes()
    write(site, name, content[: len(content) // 2])


def flip(site: Path, name: str) -> None:
    content = bytearray((site / name).read_bytes())
    content[len(content) // 2] ^= 1
    write(site, name, bytes(content))


def exchange(site: Path, name: str) -> None:
    """Leave no size and no checksum that gives the foreign library away."""
    write(site, name, DNNL_PATH.read_bytes())
    (record,) = site.glob("onednn_jax-*.dist-info/RECORD")
    lines = [line.split(",")[0] + ",," for line in record.read_text().splitlines()]
    record.write_text("\n".join(lines))


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "ours is missing": (lambda site: (site / OURS).unlink(), "is missing"),
    "ours is truncated": (lambda site: truncate(site, OURS), "its size is wrong"),
    "ours has a flipped bit": (lambda site: flip(site, OURS), "its checksum is wrong"),
    "foreign, not recorded": (lambda site: exchange(site, OURS), "cannot be loaded"),
    "oneDNN is missing": (lambda site: (site / DNNL).unlink(), "is missing"),
    "oneDNN is truncated": (lambda site: truncate(site, DNNL), "its size is wrong"),
}

TRY = """
import importlib.metadata, json, sys
from unittest import mock
import onednn_jax

def reason():
    try:
        return "loaded " + onednn_jax.load()
    except onednn_jax.Unavailable as reason:
        return str(reason)

reasons = {}
for name, site in json.loads(sys.stdin.read()).items():
    sys.path.insert(0, site)
    reasons[name] = reason()
    sys.path.remove(site)

files, version = importlib.metadata.files, importlib.metadata.version
for missing in ("onednn-jax", "onednn-cpu-gomp"):
    def without(name):
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return files(name)
    with mock.patch("importlib.metadata.files", without):
        reasons[missing] = reason()
older = lambda name: "0.6.9" if name == "jaxlib" else version(name)
with mock.patch("importlib.metadata.version", older):
    reasons["jaxlib"] = reason()
reasons["nothing"] = reason()
print(json.dumps(reasons))
"""


@pytest.fixture(scope="module")
def reasons(
    tmp_path_factory: pytest.TempPathFactory, python: Callable[..., str]
) -> dict[str, str]:
    """What load() says to each damage, in one process, which none of them ends."""
    sites = {}
    for name, (damage, _) in DAMAGES.items():
        # As deep as an environment, beside whose packages oneDNN's library lies.
        site = tmp_path_factory.mktemp("env") / "lib" / "python" / "site-packages"
        damage(copy(site))
        sites[name] = str(site)
    return json.loads(python(TRY, stdin=json.dumps(sites)))


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_libraries(reasons: dict[str, str], name: str) -> None:
    said = reasons[name]
    assert DAMAGES[name][1] in said
    if "recorded" not in name:
        assert "pip install --force-reinstall" in said


@pytest.mark.parametrize("name", ["onednn-jax", "onednn-cpu-gomp"])
def test_not_installed(reasons: dict[str, str], name: str) -> None:
    assert reasons[name] == f"{name} is not installed"


def test_older_jaxlib(reasons: dict[str, str]) -> None:
    said = reasons["jaxlib"]
    assert "was built for jaxlib 0." in said and "this is 0.6.9" in said


def test_loads_once_nothing_is_wrong(reasons: dict[str, str]) -> None:
    """A refusal is not for good; and the reasons above are of the damages."""
    assert reasons["nothing"].startswith("loaded ")


@pytest.mark.parametrize("isa", ["SSE41", "AVX2"])
def test_older_processors(python: Callable[..., str], isa: str) -> None:
    """float32 is right; bfloat16 is right or refused."""
    program = """
import jax, jax.numpy as jnp, numpy as np
import onednn_jax
from laws import check_conv

onednn_jax.load()
types = ["float32"]
try:
    onednn_jax.load("bfloat16")
    types.append("bfloat16")
except onednn_jax.Unavailable as reason:
    assert "bfloat16" in str(reason)
for dtype in types:
    check_conv((5, 14, 14, 1), (5, 5, 1, 32), "SAME", dtype)
    check_conv((5, 8, 8, 32), (3, 3, 32, 64), "SAME", dtype)
    check_conv((5, 9, 7, 5), (2, 2, 5, 7), "VALID", dtype, strides=(2, 2))
    check_conv((5, 9, 7, 20), (3, 3, 1, 20), "SAME", dtype, groups=20)
    # A kernel so large that threads share the change of its layout.
    check_conv((16, 7, 7, 128), (3, 3, 128, 192), "SAME", dtype)
    bad = jnp.ones((2, 6, 6, 8), dtype).at[0].set(jnp.nan)
    out = onednn_jax.conv(bad, jnp.ones((3, 3, 8, 16), dtype), relu=True)
    assert jnp.isnan(out[0]).all() and not jnp.isnan(out[1]).any()
print("right")
"""
    here = str(Path(__file__).parent)
    assert python(program, ONEDNN_MAX_CPU_ISA=isa, PYTHONPATH=here) == "right"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The self-test, which is to run again in this test and after it."""
    loading._check_results.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    loading._check_results.cache_clear()


def test_wrong_results_are_found(fresh: pytest.MonkeyPatch) -> None:
    def conv(images: jax.Array, kernel: jax.Array, bias: Any, **options: Any) -> Any:
        return plain_conv(images, kernel, bias, **options).at[0, 0, 0, 0].add(1)

    def max_pool(images: jax.Array, *window: Any) -> jax.Array:  # without a gradient
        return jax.lax.stop_gradient(plain_pool(images, *window))

    def call(name: str, *arguments: Any, **attributes: Any) -> Any:
        results = calls.call(name, *arguments, **attributes)
        return jax.tree.map(lambda x: x + (name == "norm_gradient"), results)

    for wrong in (conv, max_pool, call):
        with fresh.context() as patch:
            patch.setattr(loading, wrong.__name__, wrong)
            with pytest.raises(onednn_jax.Unavailable, match="float32 wrongly"):
                onednn_jax.load()


def test_other_types_are_refused() -> None:
    with pytest.raises(onednn_jax.Unavailable, match="not in float16"):
        onednn_jax.load(jnp.float16)


def test_load_within_a_traced_function(fresh: pytest.MonkeyPatch) -> None:
    @jax.jit
    def run(x: jax.Array) -> jax.Array:
        onednn_jax.load()
        return onednn_jax.max_pool(x, 2)

    assert run(jnp.ones((1, 2, 2, 1))).item() == 1


def test_first_load(python: Callable[..., str]) -> None:
    """By many threads, and whatever JAX is set to."""
    program = """
import threading
import jax
import onednn_jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_debug_nans", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
versions = []
load = lambda: versions.append(onednn_jax.load())
threads = [threading.Thread(target=load) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(versions), len(set(versions)))
"""
    assert python(program) == "6 1"
