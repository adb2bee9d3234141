"""Paths of the interpreter, its packages, the compilers and the GPU's device nodes on this machine."""

import contextlib
import functools
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

from autoresearch.paths import home

_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    "/opt/rocm",
    "/opt/cuda",
    "/opt/nvidia",
    "/run/opengl-driver",
)
_ETC = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/OpenCL",
    "/etc/passwd",
    "/etc/group",
)
_ETC_NETWORK = (
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
)
_GPU_NODES = (
    "nvidia[0-9]*",
    "nvidiactl",
    "nvidia-uvm",
    "nvidia-uvm-tools",
    "nvidia-modeset",
    "nvidia-caps",
    "dri",
    "kfd",
    "dxg",
    "nvhost*",
    "nvgpu",
    "nvmap",
)
_DEVICES = Path("/dev")
_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
_LIBRARY = Path(__file__).resolve().parents[1]
"""The folder of the package `autoresearch`."""
SYS_CPU = ("/sys/devices/system/cpu", "/sys/devices/system/node")


@functools.cache
def interpreter_paths() -> tuple[Path, ...]:
    """Return the folders that hold the running interpreter, its packages and this package.

    A prefix that holds the user's home is narrowed to its `bin`, `lib` and `include`.
    """
    above = home().resolve()
    found: list[Path] = []
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix):
        root = Path(prefix).resolve()
        if root == above or root in above.parents:
            found += [root / name for name in ("bin", "lib", "lib64", "include")]
        else:
            found.append(root)
        if Path(prefix) != root:
            found.append(Path(prefix))
    paths = sysconfig.get_paths()
    found += [Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    for program in (sys.executable, getattr(sys, "_base_executable", sys.executable)):
        found.append(Path(program).resolve().parent)
    found += [_LIBRARY, *_other_packages()]
    return _without_nested([path for path in found if path.exists()])


def system_paths(*, needs_network: bool = False) -> tuple[Path, ...]:
    """Return the folders and files of the operating system that programs need to run."""
    names = _SYSTEM + _ETC + (_ETC_NETWORK if needs_network else ())
    return tuple(Path(name) for name in names if os.path.lexists(name))


def shown_folder(path: Path) -> Path | None:
    """Return the folder that every child may read and that holds `path`, links resolved; None if there is none."""
    shown = (*system_paths(needs_network=True), *interpreter_paths())
    whole = path.resolve()
    return next((folder for folder in shown if is_inside(whole, (folder.resolve(),))), None)


def gpu_nodes(visible: str = "") -> tuple[Path, ...]:
    """Return the device nodes of the GPUs that are here.

    Args:
        visible: CUDA_VISIBLE_DEVICES; where it is the UUID of a GPU, the nodes of other NVIDIA GPUs are left out.
    """
    nodes = [node for pattern in _GPU_NODES for node in sorted(_DEVICES.glob(pattern))]
    own = _number_of(visible)
    others = [n for n in nodes if re.fullmatch(r"nvidia\d+", n.name) and n.name != f"nvidia{own}"]
    return tuple(nodes if own is None else [n for n in nodes if n not in others])


def _number_of(uuid: str) -> str | None:
    """Return the number of the device node of a GPU, as NVIDIA's driver states it in /proc; None if it does not."""
    for file in _NVIDIA_GPUS.glob("*/information"):
        with contextlib.suppress(OSError):
            said = dict(re.findall(r"^(.*?):\s*(.*?)\s*$", file.read_text(), re.MULTILINE))
            if uuid and said.get("GPU UUID") == uuid:
                return said.get("Device Minor")
    return None


def program_paths(program: str, search: str | None) -> tuple[Path, ...]:
    """Return what a program outside the usual places needs: its own folder, behind links too.

    For `PREFIX/bin/NAME` that is PREFIX, unless PREFIX holds the user's home.
    """
    start = shutil.which(program, path=search)
    if start is None:
        return ()
    found: list[Path] = []
    above = home().resolve()
    for file in (Path(os.path.normpath(Path.cwd() / start)), Path(start).resolve()):
        folder = file.parent
        root = folder.parent if folder.name == "bin" else folder
        is_broad = root == above or root in above.parents or root.parent == above
        if is_broad:
            found.append(file)
        else:
            found.append(root)
    return tuple(dict.fromkeys(found))


def is_inside(path: Path, folders: tuple[Path, ...]) -> bool:
    """Whether `path` is one of `folders` or inside one."""
    return any(path == folder or folder in path.parents for folder in folders)


def package_environment(folder: Path | None = None) -> dict[str, str]:
    """Return the PYTHONPATH that makes `autoresearch` importable where it is not installed.

    Args:
        folder: Where a backend shows the package; None: where it is.
    """
    others = list(_other_packages())
    installed = [Path(sysconfig.get_paths()[name]).resolve() for name in ("purelib", "platlib")]
    if _LIBRARY.parent not in [*installed, *others]:
        others.insert(0, folder or _LIBRARY.parent)
    return {"PYTHONPATH": os.pathsep.join(map(str, others))} if others else {}


def package_folder() -> Path:
    """Return the folder of the package `autoresearch`."""
    return _LIBRARY


def _other_packages() -> tuple[Path, ...]:
    """Return folders of packages outside the interpreter's own: the user's, or on PYTHONPATH.

    Inside the home is another, so the interpreter does not find them by itself.
    """
    prefixes = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
    folders = [Path(name) for name in sys.path if name.endswith(("site-packages", "dist-packages"))]
    return tuple(f for f in folders if f.is_dir() and not is_inside(f.resolve(), prefixes))


def _without_nested(paths: list[Path]) -> tuple[Path, ...]:
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda p: len(p.parts)):
        if not is_inside(path, tuple(kept)):
            kept.append(path)
    return tuple(kept)
