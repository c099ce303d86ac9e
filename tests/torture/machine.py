"""Full disks, shared folders, locales, permissions, other versions of Python.

PYTHONS=venv312:venv313 names environments that have the requirements.
"""

import contextlib
import functools
import locale
import os
import shutil
import subprocess
import sys
from concurrent import futures
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mnist_jax.data import labelled
from mnist_jax.demo import Corrections
from tests.support.commands import ROOT, start
from tests.support.runs import outcome
from tests.torture import CONFIG, difference, environment, fault, finished, refused, run

KILOBYTES = 20, 40, 150, 300, 700, 1300  # a run takes two thousand
SETTINGS = {
    "LANG=C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Turkish": {"LC_ALL": "tr_TR.UTF-8"},
    "time zone": {"TZ": "Pacific/Kiritimati"},
    "hash seed": {"PYTHONHASHSEED": "7"},
    "no home folder": {"HOME": "", "XDG_CACHE_HOME": ""},
    "python -O": {"PYTHONOPTIMIZE": "2"},
    **dict.fromkeys(["umask 077", "not with pip -e", "package only readable"], {}),
}


def cases(options):
    for function in (workdir, corrections):
        yield f"shared {function.__name__}", functools.partial(function, options)
    for size in KILOBYTES:
        yield f"full disk/{size} kB", functools.partial(fill, options, size)
    yield "disk only readable", functools.partial(forbid, options)
    yield "full device", functools.partial(device, options)
    for name in SETTINGS:
        yield f"setting/{name}", functools.partial(setting, options, name)
    for place in filter(None, os.environ.get("PYTHONS", "").split(":")):
        python = Path(place).absolute() / "bin" / "python"
        yield f"Python {place}", functools.partial(version, options, python)


def workdir(options, scratch):
    """One of two processes trains, the other one is refused."""
    words = ["train", CONFIG, f"--workdir={scratch / 'run'}"]
    both = [start("mnist_jax", *words, env=environment(options)) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    one = sum("Another process is" in text for text in outputs) == 1
    return 1, difference(options, scratch / "run") if one else outputs, ""


def correct(folder, first):
    for number in range(first, first + 30):
        image = np.full((28, 28), number, np.uint8)
        Corrections(folder).add(image, label="7", read_as="1")


def corrections(_, scratch):
    """Sixty corrections, of two processes, are sixty images."""
    with futures.ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(correct, [scratch] * 2, [1, 101]))
    rows = len(labelled.read_folder(scratch))
    return 60, [] if rows == 60 else [f"{rows} rows"], ""


@contextlib.contextmanager
def mounted(folder, option):
    """A disk in the memory."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)]
    subprocess.run(words, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(options, size, scratch):
    """Train until the disk is full; the run must resume when there is room."""
    with mounted(scratch / "disk", f"size={size}k") as disk:
        _, failures, _ = refused(options, [["train", CONFIG, f"--workdir={disk}/run"]])
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        ended = run(options, "train", CONFIG, f"--workdir={disk}/run")
        if wrong := fault(ended.returncode, ended.stderr):
            return 2, [*failures, wrong], ""
        return 2, failures + difference(options, disk / "run"), ""


def forbid(options, scratch):
    trained = finished(options), finished(options, seed=1)
    with mounted(scratch / "disk", "ro") as disk:
        return refused(
            options,
            [
                ["train", CONFIG, f"--workdir={disk}/run"],
                ["sweep", CONFIG, "--seeds=0", f"--workdir={disk}"],
                ["export", f"--output={disk}/x.onnx"],
                ["predict", "docs/predict.png", f"--csv={disk}/x.csv"],
                ["evaluate", trained[0], f"--output={disk}"],
                ["compare", trained[0], f"--report={disk}"],
                ["compare", trained[0], f"--publish={disk}"],
                ["ensemble", *trained, f"--output={disk}"],
                ["classify", trained[0], "--with=knn", f"--output={disk}"],
            ],
        )


def device(options, scratch):
    """A device that is always full stays a device."""
    (link := scratch / "full.onnx").symlink_to("/dev/full")
    found = refused(
        options,
        [
            ["export", f"--output={link}"],
            ["predict", "docs/predict.png", "--csv=/dev/full"],
            ["compare", finished(options), "--report=/dev/full"],
            ["train", CONFIG, "--workdir=/dev/full"],
        ],
    )
    return found if link.is_char_device() else (1, ["/dev/full is no device"], "")


def train(options, folder, python=sys.executable, **env):
    """Train with pictures, elsewhere than in the folder of the project."""
    env = {"PYTHONPATH": str(ROOT), **environment(options), **env}
    env = {name: text for name, text in env.items() if text}
    folder.parent.mkdir(exist_ok=True)
    words = [str(python), "-m", "mnist_jax", "train", CONFIG, f"--workdir={folder}"]
    mask = 0o077 if folder.name == "umask 077" else 0o022
    how = {"cwd": folder.parent, "env": env, "umask": mask}
    ended = subprocess.run(words, capture_output=True, text=True, **how)
    return [ended.stderr[-500:]] if ended.returncode else []


def setting(options, name, scratch):
    """The result is the same, to the bit."""
    expected, env = options.folder / "undisturbed" / "elsewhere", SETTINGS[name]
    train(options, expected)
    if name == "Turkish":
        try:
            locale.setlocale(locale.LC_CTYPE, env["LC_ALL"])
        except locale.Error:
            return 0, [], "skipped: there is no such locale"
    with contextlib.ExitStack() as stack:
        place = scratch / "site"
        if name == "not with pip -e":
            words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*words, "--target", str(place), str(ROOT)], check=True)
            shutil.copytree(ROOT / "tests", place / "tests")
            env = {"PYTHONPATH": str(place)}
        if name == "package only readable":
            stack.enter_context(mounted(place, "size=64m"))
            for part in ("mnist_jax", "configs", "tests"):
                shutil.copytree(ROOT / part, place / part)
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            env = {"PYTHONPATH": str(place)}
        if failures := train(options, scratch / name, **env):
            return 1, failures, ""
    same = outcome(scratch / name) == outcome(expected)
    return 1, [] if same else [f"{name}: another result"], ""


def version(options, python, scratch):
    """The last bits may differ."""
    found = subprocess.run([str(python), "--version"], capture_output=True, text=True)
    return 1, train(options, scratch / "run", python), found.stdout.strip()
