"""One framework in a process of its own, which works when it is told to.

    python -m benchmarks.worker FRAMEWORK NETWORK AUGMENTED STEPS

Prints a JSON object of versions when it is ready, then, for each line that it reads,
the seconds that an epoch took.
"""

import json
import sys

from benchmarks import work


def main() -> None:
    """Get ready, then train an epoch a line."""
    framework, network, augmented, steps = sys.argv[1:]
    run = work.prepare(framework, work.Work(network, augmented == "True", int(steps)))
    run()  # compiles, and warms up
    print(json.dumps(work.versions(framework)), flush=True)
    for _ in sys.stdin:
        print(run(), flush=True)


if __name__ == "__main__":
    main()
