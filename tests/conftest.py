"""Settings that must stand before TensorFlow or matplotlib is first imported."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same results everywhere, and no GPU memory held
os.environ["MPLBACKEND"] = "Agg"
