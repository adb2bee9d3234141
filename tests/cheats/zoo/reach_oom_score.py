"""Puts another process before itself when memory runs out.

expect: crash exception
detail: nothing done
"""

from pathlib import Path

from known import LAB
from reach import tell

tell(
    {
        "its own": lambda: Path("/proc/self/oom_score_adj").write_text("0"),
        "its own, the old way": lambda: Path("/proc/self/oom_adj").write_text("-1"),
        "the lab's": lambda: Path(f"/proc/{LAB}/oom_score_adj").write_text("1000"),
        "that of its keeper": lambda: Path("/proc/1/oom_score_adj").write_text("1000"),
    }
)
