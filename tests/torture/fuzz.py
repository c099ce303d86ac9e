"""Hostile input to each parser, in a separate process.

    python -m tests.torture.fuzz PARSER RUN FOLDER SECONDS

For half of the time, hypothesis changes valid inputs at random; then atheris, if it is
installed, changes them so that other lines of the parser are reached.
"""

import faulthandler
import functools
import importlib
import importlib.util
import json
import resource
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.torture import environment, finished

NAMES = "idx hdf5 pth safetensors npz csv labels skops checkpoint config environment "
NAMES += "results metrics predictions pictures overrides http"
MEGABYTES, SECONDS = 1024, 120  # that an input may take
NUMBERS = 0, 1, 127, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1
TEXTS = 'null true [] {} "" -1 0.5 NaN 1e999 [[[[ "a/../b" "\\u001b[2J" , : = \n'.split(
    " "
)
TEXTS += [*map(str, NUMBERS), "9" * 400, "[" * 99_999]
ENGINES = "hypothesis, then atheris", "hypothesis alone"


def cases(options):
    for name in NAMES.split():
        yield name, functools.partial(fuzz, options, name)


def fuzz(options, name, scratch):
    """Start the process, and again if it hangs or crashes before its time is over."""
    total, failures, begin, left = 0, {}, time.monotonic(), options.seconds
    while left > 0:
        folder = scratch / f"{len(failures)}-{total}"
        words = [sys.executable, "-m", "tests.torture.fuzz", name, finished(options)]
        words = [*map(str, words), str(folder), str(left)]
        ended = subprocess.run(words, env=environment(options), capture_output=True)
        path = folder / "found.json"
        count, found = json.loads(path.read_text()) if path.exists() else (0, [])
        if ended.returncode:
            text = ended.stderr.decode(errors="replace")
            found.append(f"exit status {ended.returncode}: {text[-400:]}")
        if found and folder.exists():  # with the inputs that made them
            kept = options.folder / "inputs" / name / folder.name
            shutil.copytree(folder, kept, dirs_exist_ok=True)
        failures |= dict.fromkeys(found)
        total += count
        left = ended.returncode and begin + options.seconds - time.monotonic()
    engines = ENGINES[importlib.util.find_spec("atheris") is None]
    return total, list(failures), f"{options.seconds:g} s, {engines}"


def inputs(seeds):
    """Valid inputs with changes in a few places, or cut off."""
    size, big = st.sampled_from([1, 2, 4, 8]), st.booleans()
    number = st.tuples(st.sampled_from(NUMBERS), size, big).map(
        lambda x: (x[0] % 256 ** x[1]).to_bytes(x[1], "big" if x[2] else "little")
    )
    added = number | st.binary(max_size=9) | st.sampled_from(TEXTS).map(str.encode)
    change = st.tuples(st.floats(0, 1), st.integers(0, 12), added)

    def edit(seed, changes, end):
        for place, removed, new in changes:
            at = int(place * len(seed))
            seed = seed[:at] + new + seed[at + removed :]
        return seed[: int(end * len(seed)) + 1]

    changes, end = st.lists(change, max_size=4), st.just(1.0) | st.floats(0, 1)
    return st.builds(edit, st.sampled_from(seeds), changes, end)


def main(name, run, folder, seconds):
    """Try a parser; found.json has the count and the failures."""
    folder, seconds = Path(folder), float(seconds)
    atheris = importlib.util.find_spec("atheris") and importlib.import_module("atheris")
    if atheris:
        with atheris.instrument_imports(include=["mnist_jax"]):
            parsers = importlib.import_module("tests.torture.parsers")
    else:
        parsers = importlib.import_module("tests.torture.parsers")
    time.sleep = lambda *_: None
    path, read, seeds = parsers.make(name, Path(run), folder / "parser")
    count, failures, memory = 0, {}, None

    def attempt(content):
        nonlocal count, memory
        count, kind = count + 1, ""
        path.write_bytes(content)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            read(path)
        except parsers.UserError:
            pass
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{last.filename}:{last.lineno}: {error!r:.200}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        if peak > (memory or peak) + MEGABYTES:
            kind = f"{peak} MB of memory"
        memory = max(memory or 0, peak)
        if kind and kind.partition(": ")[0] not in failures:
            (folder / f"input{len(failures)}").write_bytes(content)
            failures[kind.partition(": ")[0]] = kind
        if kind or count % 10 == 1:
            found = json.dumps([count, [*failures.values()]])
            (folder / "found.json").write_text(found)

    for seed in seeds:
        attempt(seed)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2 * MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    every = {"suppress_health_check": list(HealthCheck), "phases": [Phase.generate]}
    several = settings(max_examples=200, deadline=None, database=None, **every)
    random, begin = several(given(inputs(seeds))(attempt)), time.monotonic()
    while time.monotonic() < begin + seconds / (2 if atheris else 1):
        random()
    if atheris:
        (folder / "corpus").mkdir()
        for number, seed in enumerate(seeds):
            (folder / "corpus" / f"{number}").write_bytes(seed)
        left = max(1, int(seconds + begin - time.monotonic()))
        limits = [f"-max_total_time={left}", "-rss_limit_mb=0"]
        # atheris would take a timeout of 0 for one second.
        limits += [f"-timeout={2 * SECONDS}", f"-artifact_prefix={folder}/"]
        atheris.Setup([name, *limits, str(folder / "corpus")], attempt)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
