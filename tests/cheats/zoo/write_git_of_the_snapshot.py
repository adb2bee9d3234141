"""Plants hooks, settings and modules beside its own code for the next process that stands there.

expect: crash exception
detail: nothing done
"""

from pathlib import Path

from reach import tell


def put(name):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


tell(
    {
        "a hook": lambda: put(".git/hooks/post-checkout"),
        "settings": lambda: put("autoresearch.toml"),
        "state": lambda: put(".autoresearch/control"),
        "a module": lambda: put("torch.py"),
        "itself": lambda: put("train.py"),
        "a link": lambda: Path("link").symlink_to("/etc/passwd"),
    }
)
