"""Moves the clock of a worker's process by what stands in the file that REMIT_CHAOS_CLOCK names, in seconds.

Python's monotonic clocks stay as they are, as the system's do when its time is set.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_path = Path(os.environ["REMIT_CHAOS_CLOCK"])
_time_ns = time.time_ns


def _offset_ns() -> int:
    try:
        return int(float(_path.read_text()) * 1e9)
    except (OSError, ValueError):  # it is just being written
        return 0


time.time_ns = lambda: _time_ns() + _offset_ns()
time.time = lambda: time.time_ns() / 1e9
