"""Signals at random moments of training must not change the result of a run."""

import functools
import random
import shutil
import signal
import time

from tests.support import commands
from tests.support.runs import outcome
from tests.torture import CONFIG, environment, finished, run

SMALL = "lenet5 fast_cnn double_cnn triple_cnn efficient_capsnet capsnet".split()
LARGE = "resnet inception xception densenet vgg16 alexnet".split()
EACH = 10  # signals of a case
SECONDS = 10  # from SIGTERM to the end


def cases(options):
    """Of small networks more than of large ones, which take minutes."""
    for number in range(-(-options.kills // EACH)):
        rounds, place = divmod(number, len(SMALL) + 1)
        network = [*SMALL, LARGE[rounds % len(LARGE)]][place]
        yield f"{network}/{number}", functools.partial(kill, options, network, number)


def kill(options, network, number, scratch):
    """Send some signals, to as many runs as that takes."""
    expected, draw = outcome(finished(options, network)), random.Random(number)
    folder, env = scratch / "run", environment(options)
    words = ["train", f"{CONFIG}:{network}", f"--workdir={folder}"]
    begin = time.perf_counter()
    run(options, *words)
    whole = time.perf_counter() - begin
    sent, slowest, failures, about = 0, 0.0, [], ""
    while True:
        if (folder / "report.md").exists():
            if outcome(folder) != expected:
                failures.append(f"another result after {about}")
            if sent >= EACH:
                return sent, failures, f"ended {slowest:.1f} s after a signal"
            shutil.rmtree(folder)
        with commands.start("mnist_jax", *words, env=env) as process:
            chosen = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
            moment = draw.uniform(0, whole)
            if sent < EACH:
                time.sleep(moment)
                process.send_signal(chosen)
            begin = time.perf_counter()
            output, _ = process.communicate()
        if process.returncode in (-chosen, 128 + chosen):
            sent += 1
            about += f"{chosen.name} at {moment:.2f} s "
            seconds = time.perf_counter() - begin
            slowest = max(slowest, seconds)
            if seconds > SECONDS and chosen == signal.SIGTERM:
                failures.append(f"{about}: ended after {seconds:.1f} s")
        elif process.returncode:
            return sent, [f"{about}: {process.returncode}: {output[-300:]}"], ""
