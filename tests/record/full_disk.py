"""Nights on a disk that is really full: `full_disk.py FOLDER UNDISTURBED NUM STEP_KB`.

Mounts a small file system of its own, so it needs a mount namespace: `kill_support` starts it under `unshare`. Each
round leaves `STEP_KB` more room than the last; the night must stop with a clear word wherever it is then, and go on.
Prints how many rounds were stopped.
"""

import subprocess
import sys
from pathlib import Path

from kill_support import check_night, finish, run_night

SIZE_MB = 16


def main() -> None:
    """Fill, run, free a little, until the night comes to its end."""
    folder, undisturbed = Path(sys.argv[1]), Path(sys.argv[2])
    num, step_kb = int(sys.argv[3]), int(sys.argv[4])
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "none", str(folder)], check=True
    )
    root, ballast = folder / "lab", folder / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
    stopped = 0
    while True:
        size = ballast.stat().st_size - step_kb * 1024
        assert size > 0, "it never came to its end"
        with ballast.open("r+b") as file:
            file.truncate(size)
        ended = run_night(root, num)
        if ended.code == 0:
            break
        assert "disk" in ended.stderr, ended.stderr
        assert "full" in ended.stderr or "No space left" in ended.stderr, ended.stderr
        stopped += 1
    finish(root, num)
    check_night(root, undisturbed)
    print(stopped)


if __name__ == "__main__":
    main()
