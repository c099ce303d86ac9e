"""Many epochs, many lines of metrics, many images."""

import functools
import json
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np

from mnist_jax.runs.folder import RunFolder
from tests.support.commands import start
from tests.support.idx_files import encode
from tests.torture import CONFIG, environment, finished

EPOCHS, LINES, LARGEST = 1000, 1_000_000, 1024  # bytes an epoch
FEW, IMAGES, STEPS, MEGABYTES, SPEED = 60_000, 10_000_000, 20_000, 100, 0.8


def cases(options):
    yield f"{EPOCHS:,} epochs", functools.partial(epochs, options)
    yield f"{LINES:,} lines", functools.partial(lines, options)
    yield f"{IMAGES:,} images", functools.partial(images, options)


def epochs(options, scratch):
    """Neither the memory nor the number of checkpoints may grow."""
    words = ["train", CONFIG, f"--config.phases[0].epochs={EPOCHS}"]
    words += ["--noconfig.log.tensorboard", f"--workdir={scratch / 'run'}"]
    sizes, kept = [], set()
    with start("mnist_jax", *words, env=environment(options)) as process:
        for line in process.stdout:
            if re.match("epoch +[0-9]", line):
                memory = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
                sizes.append(4096 * int(memory))
                kept.add(len(list(scratch.glob("run/checkpoints/*"))))
    recent = np.array(sizes[EPOCHS // 5 : EPOCHS])
    slope = np.polyfit(np.arange(len(recent)), recent, 1)[0]
    about = f"{slope:.0f} bytes an epoch, {max(kept)} checkpoints"
    fine = len(sizes) > EPOCHS and slope < LARGEST and max(kept) < 4
    return len(sizes), [] if fine else [about], about


def lines(options, scratch):
    """Read the metrics of as many epochs as a resumed run does."""
    known = (finished(options) / "metrics.jsonl").read_text().splitlines()[:2]
    both, path = [json.loads(line) for line in known], scratch / "metrics.jsonl"
    with path.open("w") as file:
        for epoch in range(1, LINES // 2 + 1):
            for record in both:
                file.write(json.dumps(record | {"epoch": epoch}) + "\n")
    begin = time.perf_counter()
    text = RunFolder(scratch).first_metrics(LINES // 2)
    zlib.crc32(text.encode())
    return text.count("\n"), [], f"{time.perf_counter() - begin:.1f} s"


def images(options, scratch):
    """A set above the memory limit, on the disk, beside one that is in the memory."""
    speeds, sizes = [], []
    for count in (FEW, IMAGES):
        folder = scratch / f"{count}"
        folder.mkdir()
        labels = encode((np.arange(count) % 10).astype(np.uint8))
        (folder / "train-labels-idx1-ubyte").write_bytes(labels)
        with (folder / "train-images-idx3-ubyte").open("wb") as file:
            file.write(struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28))
            file.truncate(16 + 784 * count)  # the disk has no room for zeros
        words = ["train", "--config=lenet5", "--config.data.source=idx"]
        words += [f"--config.data.dir={folder}", "--config.data.test_on=val"]
        words += [f"--config.data.images_megabytes={MEGABYTES}"]
        words += [f"--config.phases[0].steps_per_epoch={STEPS}"]
        words += ["--config.phases[0].epochs=1", f"--workdir={folder / 'run'}"]
        with start("mnist_jax", *words, env=environment(options)) as process:
            for line in process.stdout:
                if re.match("epoch +1 ", line):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    sizes.append(int(re.findall(r"RssAnon:\s+(\d+)", status)[0]) / 1024)
        rows = map(json.loads, (folder / "run/metrics.jsonl").read_text().splitlines())
        speeds.append(max(row.get("images_per_second", 0) for row in rows))
    about = f"{speeds[1] / speeds[0]:.2f} of the speed, {sizes[1] - sizes[0]:+.0f} MB"
    return IMAGES, [] if speeds[1] > SPEED * speeds[0] else [about], about
