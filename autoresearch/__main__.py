"""`python -m autoresearch` is the same as `autoresearch`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, whose files may be a stranger's
    from autoresearch.cli import main

    raise SystemExit(main())
