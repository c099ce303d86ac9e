"""One framework in its own process, which trains an epoch per line that it reads.

    python -m benchmarks.worker FRAMEWORK NETWORK AUGMENTED STEPS

Prints a JSON object of versions when it is ready, then the seconds of each epoch.
"""

import json
import sys

from benchmarks import work


def main() -> None:
    """Compile, then train an epoch per line."""
    framework, network, augmented, steps = sys.argv[1:]
    what = work.Work(network, augmented == "True", int(steps))
    run, versions = work.prepare(framework, what)
    run()  # compiles, and warms up
    print(json.dumps(versions), flush=True)
    for _ in sys.stdin:
        print(run(), flush=True)


if __name__ == "__main__":
    main()
