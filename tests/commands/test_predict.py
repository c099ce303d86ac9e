"""`mnist-jax predict` as a user meets it."""

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mnist_jax
from mnist_jax.data import digits
from tests.conftest import ROOT
from tests.support import paper
from tests.support.commands import check_lines, run_each
from tests.support.idx_files import encode


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of good pictures, and one of bad ones."""
    folder = tmp_path_factory.mktemp("pictures")
    images = digits.load()[1].images[..., 0]
    rng = np.random.default_rng(0)
    (folder / "good").mkdir()
    for name, squared in (("a", False), ("b", True)):
        picture = paper.photograph_number(images[[4, 5, 6]], rng, squared=squared)
        (folder / "good" / f"{name}.jpg").write_bytes(paper.jpeg(picture))
    Image.fromarray(images[3]).save(folder / "prepared.png")
    np.save(folder / "prepared.npy", images[:5])
    (folder / "prepared.idx").write_bytes(encode(images[:5]))

    (folder / "empty").mkdir()
    (folder / "text.png").write_text("no image")
    Image.new("L", (300, 300), 200).save(folder / "blank.png")
    return folder


@pytest.fixture(scope="module")
def predict(command_env):
    """Run the verb with each of some arguments."""

    def run(*cases):
        typed = [["predict", *map(str, case)] for case in cases]
        return run_each("mnist_jax", typed, env=command_env)

    return run


def test_what_it_says_is_what_python_says(predict, pictures, tmp_path):
    good = pictures / "good"
    table, as_json, named = predict(
        [good, f"--save={tmp_path / 'strips'}"],
        [good / "a.jpg", good / "b.jpg", "--json", f"--csv={tmp_path / 'table.csv'}"],
        [good / "a.jpg", "--run", ROOT / "results" / "lenet5-tuned" / "seed0"],
    )
    run = mnist_jax.load_run()
    expected = {name: run.read(good / f"{name}.jpg") for name in "ab"}
    assert [ended.returncode for ended in (table, as_json, named)] == [0, 0, 0]
    for name, reading in expected.items():
        assert len(str(reading)) == 3
        assert re.search(rf"{name}\.jpg +{reading} ", table.stdout)
    assert re.search(rf"a\.jpg +{expected['a']} ", named.stdout)

    told = json.loads(as_json.stdout)["pictures"]
    assert [picture["reading"] for picture in told] == list(map(str, expected.values()))
    digits_read = [digit for reading in expected.values() for digit in reading.digits]
    flat = [digit for picture in told for digit in picture["digits"]]
    for item, digit in zip(flat, digits_read, strict=True):
        assert (item["digit"], item["box"]) == (digit.label, list(digit.box))
        assert item["probability"] == pytest.approx(digit.probability, abs=1e-6)
        assert sum(item["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["digit"] for row in rows] == [digit.label for digit in digits_read]
    for row, digit in zip(rows, digits_read, strict=True):
        columns = [float(row[f"p{label}"]) for label in run.classes]
        np.testing.assert_allclose(columns, digit.probabilities, atol=1e-6)
        assert (row["turned"], row["doubt"]) == ("0", digit.doubt)
    for drawing in ("001-a.png", "002-b.png"):
        with Image.open(tmp_path / "strips" / drawing) as strip:
            assert min(strip.size) > 100


def test_prepared_images_go_to_the_network_as_they_are(predict, pictures):
    several = [pictures / f"prepared.{ending}" for ending in ("npy", "idx", "png")]
    (ended,) = predict([*several, "--raw", "--json"])
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)["pictures"]
    images = digits.load()[1].images[..., 0]
    labels = mnist_jax.load_run().predict(images[:5]).argmax(axis=1)
    expected = "".join(map(str, labels))
    assert [picture["reading"] for picture in told] == [expected] * 2 + [expected[3]]


def test_what_is_skipped_in_a_folder_is_named(predict, pictures, tmp_path):
    shutil.copy(pictures / "prepared.png", tmp_path / "good.png")
    others = ["._good.png", "b.heic", "c.avif", "notes.txt"]
    for name in others:
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    (ended,) = predict([tmp_path, "--raw"])
    assert ended.returncode == 0, ended.stderr
    assert f"Skipped {len(others)}: " in ended.stderr
    assert all(str(tmp_path / name) in ended.stderr for name in others)


def test_names_may_be_any_bytes_and_begin_with_a_tilde(predict, pictures, tmp_path):
    prepared = (pictures / "prepared.png").read_bytes()
    for name in (b"\xff.png", b"~$scan.png"):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(prepared)
    table, text, tilde = tmp_path / "t.csv", tmp_path / "text", "~$scan/none.png"
    ended = predict(
        [tmp_path, "--raw", f"--csv={table}", f"--save={text}"],
        [tmp_path, "--raw", "--json"],
        [tilde, "--raw"],
    )
    assert [result.returncode for result in ended] == [0, 0, 1], ended
    for output in (ended[0].stdout, table.read_text(), ended[1].stdout):
        assert "xff.png" in output and "~$scan.png" in output
    assert len(list(text.iterdir())) == 2
    assert ended[2].stderr.startswith(f"Error: {tilde}: No such file")


def test_targets_may_be_links_and_pipes(predict, pictures, tmp_path):
    prepared, pipe = pictures / "prepared.png", tmp_path / "pipe"
    file, link = tmp_path / "file.csv", tmp_path / "link.csv"
    link.symlink_to(file)
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    ended = predict(*([prepared, "--raw", f"--csv={to}"] for to in (link, link, pipe)))
    assert [result.returncode for result in ended] == [0, 0, 0], ended
    assert reader.communicate(timeout=60)[0] == file.read_bytes() != b""
    assert link.is_symlink() and pipe.is_fifo()


def test_each_bad_picture_has_a_line_of_its_own(predict, pictures):
    expected = {
        "none.png": "No such file",
        "empty": "is a folder without pictures",
        "text.png": "is not an image",
        "blank.png": "has no digit in it: there is no ink",
    }
    photograph, digit = pictures / "good" / "a.jpg", pictures / "prepared.png"
    bad = [pictures / name for name in expected]
    all_bad, raw, some = predict(
        bad, ["--raw", photograph, digit], [*bad[2:4], photograph, "--json"]
    )
    assert (all_bad.returncode, raw.returncode, some.returncode) == (1, 1, 1)
    told = json.loads(some.stdout)
    assert (len(told["pictures"]), len(told["errors"])) == (1, 2)
    lines = all_bad.stderr.splitlines()
    assert len(lines) == len(expected)
    for name, why in expected.items():
        assert any(name in line and why in line for line in lines), name
    assert re.search(r"a\.jpg holds uint8 of shape .* without --raw", raw.stderr)
    assert "prepared.png" in raw.stdout


def test_wrong_flags_are_one_clear_line(command_env, pictures, tmp_path):
    good = pictures / "good" / "a.jpg"
    expected = [
        ([], 1, "Name a picture"),
        ([good, f"--run={tmp_path}/none"], 1, "Cannot read .*none"),
        ([good, f"--run={pictures}/empty"], 1, "empty is not a run folder"),
        ([good, f"--save={tmp_path}/none/x"], 1, "none/x: No such file or directory"),
        ([good, f"--save={good}"], 1, "a.jpg is not a folder"),
    ]
    check_lines("predict", expected, env=command_env)


def test_photographs_are_never_written_over(predict, tmp_path, pictures):
    scan, saved = tmp_path / "001-scan.png", tmp_path / "saved"
    with Image.open(pictures / "good" / "a.jpg") as photograph:
        photograph.save(scan)
    before = scan.read_bytes()
    (tmp_path / "scan.png").symlink_to(scan)
    shutil.copy(pictures / "good" / "a.jpg", tmp_path / "scan.jpg")
    expected = [
        ([tmp_path / "scan.png", f"--save={tmp_path}"], "also read"),
        ([tmp_path / "scan.jpg", f"--save={tmp_path}"], "did not write it"),
        ([scan, f"--csv={tmp_path / 'scan.png'}"], "also read"),
        ([tmp_path, f"--save={tmp_path}/../{tmp_path.name}"], "a folder to read"),
        ([scan, f"--csv={tmp_path / 'scan.jpg'}"], "did not write it"),
    ]
    readings = [scan, f"--save={saved}"]
    ended = predict(*(arguments for arguments, _ in expected), readings, readings)
    for result, (_, message) in zip(ended, expected, strict=False):
        assert result.returncode == 1 and message in result.stderr, result
    assert [result.returncode for result in ended[-2:]] == [0, 0]  # it can be repeated
    assert scan.read_bytes() == before


def test_answers_for_kaggle_are_those_of_the_network(predict, pictures, tmp_path):
    images = digits.load()[1].images[..., 0]
    header = ",".join(f"pixel{number}" for number in range(784))
    rows = [",".join(map(str, image.ravel())) for image in images]
    table, labelled = tmp_path / "test.csv", tmp_path / "train.csv"
    table.write_text("\n".join([header, *rows]))
    labelled.write_text("\n".join([f"label,{header}", *(f"0,{row}" for row in rows)]))
    mine = tmp_path / "mine.csv"
    mine.write_text("ImageId,Label\n")
    done, again, *refused = predict(
        [f"--kaggle={tmp_path / 'submission.csv'}", table],
        [f"--kaggle={tmp_path / 'submission.csv'}", table],
        [f"--kaggle={mine}", table],
        [f"--kaggle={table}", table],
        [f"--kaggle={tmp_path / 'new.csv'}", labelled],
        [f"--kaggle={tmp_path / 'new.csv'}", table, "--json"],
    )
    assert done.returncode == 0, done.stderr
    answers = mnist_jax.load_run().predict(images).argmax(axis=1)
    expected = [f"{number},{label}" for number, label in enumerate(answers, start=1)]
    found = (tmp_path / "submission.csv").read_text()
    assert found.split("\n") == ["ImageId,Label", *expected, ""]
    reasons = ["exists", "exists", "also read", "has labels", "no other"]
    for ended, reason in zip([again, *refused], reasons, strict=True):
        assert ended.returncode == 1 and reason in ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1
    assert mine.read_text() == "ImageId,Label\n" and table.read_text()[:5] == "pixel"
    assert not (tmp_path / "new.csv").exists()
