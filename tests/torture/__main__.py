"""Try what makes programs fail, for hours, and print a table.

    python -m tests.torture [--parts=kills,fuzz] [--seconds=600] [--kills=200]

Each case adds a line to results.jsonl in --folder. Cases that have one are not
repeated: delete lines to try them again.
"""

import argparse
import importlib
import json
import shutil
import time
import traceback
from pathlib import Path

from rich.console import Console

from mnist_jax.report.render import Table, duration

PARTS = "damage,machine,fuzz,long,kills"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=PARTS, help="some of the default")
    parser.add_argument("--seconds", type=float, default=600, help="for each parser")
    parser.add_argument("--kills", type=int, default=200, help="all together")
    parser.add_argument("--folder", type=Path, default=Path("runs/torture"))
    options = parser.parse_args()
    options.folder = options.folder.absolute()
    options.folder.mkdir(parents=True, exist_ok=True)
    (path := options.folder / "results.jsonl").touch()
    done = {(row["part"], row["case"]) for row in read(path)}
    for part in options.parts.split(","):
        module = importlib.import_module(f"tests.torture.{part}")
        for name, function in module.cases(options):
            if (part, name) not in done:
                row = attempt(function, options.folder / "scratch" / part)
                row = {"part": part, "case": name} | row
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(*row.values(), flush=True)
    table(read(path)).show(Console())


def attempt(function, scratch):
    """The outcome of a case; an error is a failure."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    begin = time.perf_counter()
    try:
        count, failures, note = function(scratch)
    except Exception as error:
        traceback.print_exc()
        count, failures, note = 1, [repr(error)], ""
    seconds = round(time.perf_counter() - begin, 1)
    shutil.rmtree(scratch, ignore_errors=True)
    return {"seconds": seconds, "count": count, "failures": failures, "note": note}


def read(path):
    """The results so far; a kill may have cut off the last."""
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def table(results):
    """Add up the cases of each group."""
    groups = {}
    for row in results:
        groups.setdefault((row["part"], row["case"].split("/")[0]), []).append(row)
    rows = []
    for names, cases in groups.items():
        count, seconds = (sum(row[k] for row in cases) for k in ("count", "seconds"))
        failed = sum(len(row["failures"]) for row in cases)
        figures = f"{count:,}", f"{failed}", duration(seconds), cases[-1]["note"]
        rows.append([*names, *figures])
    header = ["Part", "Case", "Count", "Failures", "Time", ""]
    return Table(header, rows, ["left", "left", *["right"] * 3, "left"])


if __name__ == "__main__":
    main()
