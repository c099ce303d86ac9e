"""`mnist-jax export` as a user meets it."""

import re
import shutil

import pytest

from mnist_jax.runs.load import load
from tests.support.commands import check_lines


@pytest.mark.slow
def test_it_writes_a_file_and_its_card_or_says_why_not(tmp_path, command_env):
    out, here = tmp_path / "out", re.escape(str(tmp_path))
    out.mkdir()
    weights = shutil.copy(load().path, tmp_path / "mine.safetensors")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text("{}")
    (out / "old.html").write_text('content="mnist-jax export"')
    (out / "notes.html").write_text("mine")
    expected = [
        ([weights, f"--output={out}/old.html"], 0, r"old.html \(0.\d+ MB\).*html.md"),
        ([f"--output={out}/net.safetensors"], 0, r"net.safetensors \(0.\d+ MB\)"),
        ([weights, f"--output={weights}"], 1, "also read"),
        ([f"--output={out}/notes.html"], 1, "did not write it"),
        ([], 1, "--output=FILE"),
        (["a", "b", f"--output={out}/x.onnx"], 1, "one run at most"),
        ([f"--output={out}/x.h5"], 1, r"x\.h5: the ending .*\.onnx, \.stablehlo"),
        ([f"--output={out}/no/x.onnx"], 1, f"there is no folder {here}/out/no"),
        (["none", f"--output={out}/x.onnx"], 1, "none: No such file"),
        ([f"{tmp_path}/unfinished", f"--output={out}/x.onnx"], 1, "is not finished"),
    ]
    check_lines("export", expected, env=command_env)
    assert {path.suffix for path in out.iterdir()} == {".html", ".md", ".safetensors"}
    assert (out / "old.html").read_text().startswith("<!DOCTYPE html>")
    assert (out / "net.safetensors").read_bytes() == load().path.read_bytes()
