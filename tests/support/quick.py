"""train.py without previews, figures and export: for tests that read only its checkpoints."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import train  # noqa: E402
from keras_diffusion.training import run  # noqa: E402

run._finish = lambda *_: None
run._watchers = lambda *_: []
code = train.main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # what libraries do at their end takes seconds
