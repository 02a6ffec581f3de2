"""One measurement in a process of its own; `runs.in_fresh_process` calls it:

    python benchmarks/worker.py MODULE.FUNCTION '{"argument": value, ...}'

calls a function of a file in this folder and prints what it returns, a dict, as one line of
JSON, with "peak_mib", the most memory that the process has held, unless the function says it.
"""

import importlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
if __name__ == "__main__":
    # Instead of this folder, whose file names are common words.
    sys.path[0] = str(Path(__file__).resolve().parents[1])


def main(name, arguments):
    """Calls the function and prints its result."""
    module, _, function = name.rpartition(".")
    result = getattr(importlib.import_module(f"benchmarks.{module}"), function)(
        **json.loads(arguments)
    )
    from benchmarks import machine

    print("\n" + json.dumps({"peak_mib": machine.peak_mib(), **result}), flush=True)
    # What libraries do at the end of a process is not measured, and may take its time.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
