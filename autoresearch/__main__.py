"""The program: `autoresearch`, which `python -m autoresearch` is too."""

import sys


def main() -> int:
    """Run the command line and return the exit code; `status` of a running session without loading the rest."""
    if sys.argv[1:] == ["status"]:
        from autoresearch.rundir.glance import glance

        if line := glance():
            sys.stdout.write(f"{line}\n")
            return 0
    from autoresearch.cli import main

    return main()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, whose files may be a stranger's
    raise SystemExit(main())
