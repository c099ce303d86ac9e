"""Each file of a run folder, damaged in every way, to each command.

    python -m tests.torture.damage VERB FOLDER

A process for each verb, since the flags of verbs have equal names.
"""

import contextlib
import functools
import importlib
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl.testing import flagsaver

from mnist_jax import demo
from mnist_jax.commands import cli
from tests.support.commands import ROOT
from tests.support.runs import leave_out_pictures
from tests.torture import CONFIG, environment, fault, finished, run

WAYS = {
    "zeroed": lambda content: bytes(len(content)),
    "cut": lambda content: content[: len(content) // 2],
    "garbage": lambda content: np.random.default_rng(0).bytes(len(content)),
    "missing": lambda content: b"",
    "empty": lambda content: b"",
}
# For files of JSON.
TEXTS = {text: lambda _, text=text: text.encode() for text in ("[]", "{}", "null", "3")}
NETWORK, HALF = "seed0", "half"
ANY = NETWORK, HALF, "ensemble", "classified/knn"
# By verb: the folders that it takes, and its arguments.
VERBS = {
    "evaluate": (ANY, "RUN"),
    "predict": (ANY, f"--run=RUN {ROOT}/docs/predict.png"),
    "compare": (ANY, "RUN"),
    "export": (ANY, "RUN --output=OUT/x.onnx"),
    "demo": (ANY, "RUN --port=0 --corrections=OUT/kept"),
    "ensemble": ([NETWORK], "RUN RUN/../seed1 --output=OUT/both"),
    "classify": ([NETWORK], "RUN --with=knn --images=40 --output=OUT/classified"),
    "train": ([NETWORK, HALF], f"{CONFIG} --workdir=RUN"),
    "sweep": ([NETWORK], f"{CONFIG} --seeds=0 --workdir=RUN/.."),
}


def cases(options):
    for verb in VERBS:
        yield verb, functools.partial(damage, options, verb)


def damage(options, verb, scratch):
    """Start the process of a verb, with a run of each kind."""
    whole = scratch / "whole"
    for seed in range(2):
        shutil.copytree(finished(options, seed=seed), whole / f"seed{seed}")
    both = [whole / "seed0", whole / "seed1"]
    if VERBS[verb][0] == ANY:
        run(options, "ensemble", *both, f"--output={whole}/ensemble")
        run(options, "classify", both[0], "--with=knn", f"--output={whole}/classified")
    shutil.copytree(both[0], whole / HALF)
    for name in ("results.json", "report.md", "weights.safetensors", "predictions.npz"):
        (whole / HALF / name).unlink()
    words = [sys.executable, "-m", "tests.torture.damage", verb, str(scratch)]
    env, pipe = environment(options), subprocess.PIPE
    ended = subprocess.run(words, env=env, stdout=pipe, check=True)
    return *json.loads(ended.stdout.splitlines()[-1]), ""


def call(verb, words):
    """Run a command within this process, and return its fault, if any."""
    command = importlib.import_module(f"mnist_jax.commands.{verb}")
    sys.argv, output = ["mnist-jax", verb, *words], io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        with flagsaver.flagsaver():
            try:
                cli.run(command, verb=verb)
            except SystemExit as ended:
                return fault(int(ended.code or 0), output.getvalue())
            except Exception as error:
                return repr(error)


def main(verb, scratch):
    """Damage every file, and print the count and the failures as JSON."""
    demo.Server.serve_forever = lambda self, poll_interval=0.5: None
    time.sleep = lambda *_: None
    leave_out_pictures()
    kinds, arguments = VERBS[verb]
    whole, copy = Path(scratch) / "whole", Path(scratch) / "copy"
    count, failures = 0, []
    for kind in kinds:
        for path in sorted(whole.joinpath(kind).rglob("*")):
            read_by_all = "checkpoints" not in path.parts and path.suffix != ".png"
            if path.is_dir() or not (read_by_all or (verb, kind) == ("train", HALF)):
                continue
            is_json = path.suffix in (".json", ".jsonl")
            for way, change in (WAYS | (TEXTS if is_json else {})).items():
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(whole, copy)
                damaged = copy / path.relative_to(whole)
                damaged.write_bytes(change(path.read_bytes()))
                if way == "missing":
                    damaged.unlink()
                words = arguments.replace("RUN", f"{copy}/{kind}").split()
                words = [word.replace("OUT", str(copy)) for word in words]
                count += 1
                if wrong := call(verb, words):
                    failures.append(f"{path.relative_to(whole)} {way}: {wrong:.300}")
                    print(failures[-1], file=sys.stderr, flush=True)
    print(json.dumps([count, failures]))


if __name__ == "__main__":
    main(*sys.argv[1:])
