"""One measurement in its own process, started by `runs.in_fresh_process`:

    python benchmarks/worker.py MODULE.FUNCTION '{"argument": value, ...}'

Calls a function of this folder and prints the dict that it returns as one line of JSON, with
"peak_mib", the peak memory of the process, unless the function returns it.
"""

import importlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
if __name__ == "__main__":
    # Instead of this folder, whose file names are common words.
    sys.path[0] = str(Path(__file__).resolve().parents[1])


def main(name, arguments):
    """Calls the function and prints its result."""
    from benchmarks import machine

    module, _, function = name.rpartition(".")
    call = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    result = call(**json.loads(arguments))
    print("\n" + json.dumps({"peak_mib": machine.peak_mib(), **result}), flush=True)
    os._exit(0)  # the exit handlers of the libraries take time and are not measured


if __name__ == "__main__":
    main(*sys.argv[1:])
