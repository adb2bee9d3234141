"""Prints how large the package is: `python docs/size.py` in a checkout.

Counts Python files and their lines (JSON schemas and templates apart), the largest folder, settings and dependencies.
"""

import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print the table."""
    files = sorted((ROOT / "autoresearch").rglob("*.py"))
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    folders = Counter(path.parent for path in files)
    folder, num_modules = folders.most_common(1)[0]
    settings = tomllib.loads((ROOT / "autoresearch.toml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    longest = max(files, key=lines.__getitem__)
    rows = (
        ("files", len(files), ""),
        ("lines", sum(lines.values()), ""),
        ("longest file", lines[longest], longest.relative_to(ROOT)),
        ("largest folder", num_modules, f"{folder.relative_to(ROOT)}, {len(folders)} folders"),
        ("settings", sum(len(section) for section in settings.values()), "in autoresearch.toml"),
        (
            "dependencies",
            len(project["dependencies"]),
            "of an installation, named in pyproject.toml",
        ),
    )
    for name, number, note in rows:
        print(f"{name:<15} {number:>7,}  {note}")


if __name__ == "__main__":
    main()
