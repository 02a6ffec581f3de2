"""train.py without previews, pictures and export: for tests that read its checkpoints alone."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import train  # noqa: E402
from keras_diffusion.training import fit, run  # noqa: E402

run._finish = lambda *_: None
fit._shown = lambda *_: []
code = train.main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # what libraries do at their end takes seconds
