"""Measures and clears folders that hostile code has written."""

from __future__ import annotations

import os

from .kernel import MB

MAX_DEPTH = 200
MAX_ENTRIES = 300_000


def measure(folder: str) -> tuple[int, str]:
    """Return what a folder holds in MB, by blocks, and what is wrong with its shape.

    Symbolic links are not followed. A tree that is too deep or too full to be looked through is reported as such: its
    contents could not be counted.
    """
    total = num_entries = 0
    todo = [(folder, 0)]
    while todo:
        path, depth = todo.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    num_entries += 1
                    try:
                        total += entry.stat(follow_symlinks=False).st_blocks
                        if entry.is_dir(follow_symlinks=False):
                            todo.append((entry.path, depth + 1))
                    except OSError:
                        continue
        except OSError:
            continue
        if depth > MAX_DEPTH:
            return 512 * total // MB, f"limit of {MAX_DEPTH} nested folders"
        if num_entries > MAX_ENTRIES:
            return 512 * total // MB, f"limit of {MAX_ENTRIES} files"
    return 512 * total // MB, ""


def wipe(folder: str) -> None:
    """Remove everything in a folder, without following a symbolic link, however deep it is.

    Folders in folders are first moved to the top, so that no path grows and nothing recurses.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(folder, flags)
    number, before = 0, None
    while (names := os.listdir(top)) and names != before:
        before = names
        for name in names:
            try:
                if os.stat(name, dir_fd=top, follow_symlinks=False).st_mode & 0o170000 == 0o040000:
                    os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, flags, dir_fd=top)
            except OSError:
                remove(name, top)
                continue
            for child in os.listdir(inner):
                number += 1
                try:
                    os.rename(child, f"{number}.wiped", src_dir_fd=inner, dst_dir_fd=top)
                except OSError:
                    remove(child, inner)
            os.close(inner)
            remove(name, top)
    os.close(top)


def remove(name: str, folder: int) -> None:
    """Remove one file or empty folder of an open folder."""
    for remover in (os.unlink, os.rmdir):
        try:
            remover(name, dir_fd=folder)
        except OSError:
            continue
        return


def remove_shared(uid: int) -> None:
    """Remove the names in /dev/shm that a throw-away uid left."""
    with os.scandir("/dev/shm") as entries:  # noqa: S108
        for entry in entries:
            try:
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    os.unlink(entry.path)
            except OSError:
                continue
