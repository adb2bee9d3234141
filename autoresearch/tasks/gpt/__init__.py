"""Training a small language model, scored by the bits it needs for a byte of held-out text."""

from autoresearch.types import Metric

METRIC = Metric("val_bpb", "bits per byte", "minimize", 6, "counting tokens alone")
