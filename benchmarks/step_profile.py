"""Draws where the time of a training step goes, before and after a change.

  python -m benchmarks.step_profile --before=FOLDER [--output=docs/step.png]
      [--networks=lenet5,double_cnn,...]

FOLDER is a checkout of the version to compare with. Each version trains each network in
a process of its own, without JAX's profiler for the time of a step, and with it for the
shares. The profiler does not see the threads of XLA's own convolutions: these are
charged with the time in which it sees nothing, and with the transposes before their
gradients.
"""

import collections
import glob
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# The kind of an operation is decided by the first pattern that matches its line of
# XLA's program, which contains its name in our code.
_KINDS = {
    "convolutions": r"conv_general_dilated|onednn_jax_conv|convolution|concatenate",
    "matrix products": r"dense|logits|dot_general",
    "BatchNorm": r"_norm/",
    "pools": r"max_pool|onednn_jax_pool|avg_pool|reduce_window|/max",
    "dropout": r"[Dd]ropout|threefry|shift_right|random_bits",
    "sums over places": r"reduce-window|reduce_sum",
}
_REST = "optimizer and the rest"
_COLOURS = ("#4878a8", "#8fb0d0", "#e0a050", "#70a070", "#b07aa1", "#d0b060", "#c8c8c8")


def measure(network: str, steps: int) -> dict[str, float]:
    """Return the milliseconds of a step by kind, in the version that is imported."""
    import jax

    from benchmarks import ours, work

    run = ours.prepare(work.Work(network, False, steps))
    run()
    seconds = sorted(run() for _ in range(5))[2] / steps
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            watched = run()
        (path,) = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
    dumped = Path(os.environ["STEP_DUMP"])
    (program,) = dumped.glob("*train_steps*after_optimizations.txt")
    lines = re.findall(r"^ +(?:ROOT )?%?([\w.-]+) = (.*)$", program.read_text(), re.M)
    kinds = {
        name: next((k for k, p in _KINDS.items() if re.search(p, line)), _REST)
        for name, line in lines
        if not re.search(r" (while|call|conditional)\(", line)
    }
    times: collections.Counter[str] = collections.Counter()
    for event in events:
        if event.get("ph") == "X" and event["name"] in kinds:
            kind = kinds[event["name"]]
            if event["name"].startswith("transpose_copy"):
                kind = "convolutions"
            times[kind] += event["dur"]  # in microseconds
    times["convolutions"] += max(0, 1e6 * watched - sum(times.values()))
    whole = sum(times.values())
    return {kind: 1e3 * seconds * time / whole for kind, time in times.items()}


def measure_in(checkout: Path, network: str, steps: int) -> dict[str, float]:
    """Measure in a process of its own, with the code of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        dump = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
        env = {"PYTHONPATH": str(checkout), "STEP_DUMP": folder, "XLA_FLAGS": dump}
        if (checkout / "mnist_jax" / "devices" / "memory.py").exists():
            from mnist_jax.devices import memory

            env |= memory.settings()
        result = subprocess.run(
            [sys.executable, __file__, "--measure", network, str(steps)],
            cwd=checkout,
            env=os.environ | env | {"JAX_ENABLE_COMPILATION_CACHE": "false"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return json.loads(result.stdout.splitlines()[-1])


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw two bars for each network, as shares of the longer."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    kinds = [*_KINDS, _REST]
    figure, axes = pyplot.subplots(figsize=(9, 0.9 * len(found) + 1.2))
    for row, versions in enumerate(found.values()):
        longest = max(sum(times.values()) for times in versions)
        for place, times in enumerate(versions):
            y, left = row + 0.38 * place, 0.0
            for kind, colour in zip(kinds, _COLOURS, strict=True):
                width = times.get(kind, 0.0) / longest
                label = kind if row == place == 0 else None
                axes.barh(y, width, 0.34, left, color=colour, label=label)
                left += width
            text = f" {sum(times.values()):,.3g} ms {('before', 'now')[place]}"
            axes.text(left, y, text, va="center", fontsize=9)
    axes.set_yticks([row + 0.19 for row in range(len(found))], list(found))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title("Where the time of a training step goes", loc="left")
    axes.legend(
        ncols=3, loc="upper left", bbox_to_anchor=(0, -0.02), frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main(arguments: list[str]) -> None:
    """Measure both versions, print the figures, draw them."""
    from benchmarks import work

    found = {}
    for network in _NETWORKS.value:
        steps = work.STEPS[network]
        checkouts = (Path(_BEFORE.value).resolve(), Path(__file__).parents[1])
        found[network] = [measure_in(each, network, steps) for each in checkouts]
        for name, times in zip(("before", "now"), found[network], strict=True):
            shown = ", ".join(f"{k} {v:.2f}" for k, v in times.items())
            print(
                f"{network} {name}: {sum(times.values()):.1f} ms: {shown}", flush=True
            )
    draw(found, Path(_OUTPUT.value))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
        sys.exit()
    from absl import app, flags

    _BEFORE = flags.DEFINE_string("before", None, "A checkout.", required=True)
    _OUTPUT = flags.DEFINE_string("output", "docs/step.png", "Where the picture goes.")
    _NETWORKS = flags.DEFINE_list(
        "networks", ["lenet5", "double_cnn", "triple_cnn", "vgg16"], "Which networks."
    )
    app.run(main)
