"""Puts the builders of sessions within reach of the tests of screens and reports."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
