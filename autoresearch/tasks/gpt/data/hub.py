"""Datasets of the Hugging Face hub: which files to take, fetching them, retries.

Everything on the wire is huggingface_hub's: tokens, mirrors (HF_ENDPOINT), its cache (HF_HOME), resuming a
dropped connection. Added here: a choice of shards with pinned splits, a look at the free space first,
parallel downloads with one progress, SHA-256 checked against the listing, errors in words.

The listing of a revision is stored, so that a source that was listed once works without a network as long
as its files are in the hub's cache.
"""

import errno
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from autoresearch.errors import AutoresearchError, PrerequisiteError, UsageError
from autoresearch.paths import cache_directory
from autoresearch.tasks.gpt.data.formats import SUFFIXES, kind_of
from autoresearch.tasks.gpt.data.shards import DataSplit
from autoresearch.tasks.gpt.data.sources import HUB_PREFIX, Listing, SourceFile
from autoresearch.types import GB
from autoresearch.util.files import file_sha256, read_json, write_json

MAX_DOWNLOADS = 8
UPSTREAM_DATA = Path("~/.cache/autoresearch/data")
"""Where karpathy's autoresearch keeps its shards: one that is what the hub lists is not fetched again."""
REST_BYTES = 200_000_000
"""Space that must stay free after the download."""

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HELD_OUT = re.compile(r"(^|[^a-z])(validation|valid|val|dev|eval|test)([^a-z]|$)")
_TRAINING = re.compile(r"(^|[^a-z])(train|training)([^a-z]|$)")


@dataclass(frozen=True)
class HubFile:
    """A file of a dataset as the hub lists it."""

    name: str
    size: int
    sha256: str = ""
    """Empty for small files, which the hub keeps in git."""
    split: DataSplit | None = None

    @property
    def kind(self) -> str:
        """Its format, a key of `FORMATS`; empty if it is none."""
        return kind_of(Path(self.name))


def parse(source: str) -> tuple[str, str]:
    """Return name and revision of `hf://datasets/OWNER/NAME[@revision]`.

    Raises:
        UsageError: it is not of that form.
    """
    name, _, revision = source.removeprefix(HUB_PREFIX).partition("@")
    if not _NAME.fullmatch(name):
        inside = re.match(rf"({_NAME.pattern})/.", name)
        hint = f"write it as `{HUB_PREFIX}{inside[1] if inside else 'OWNER/NAME'}`"
        if inside:
            hint += ": a dataset is taken whole, `--shards` and `--max-bytes` say how much of it"
        raise UsageError(f"cannot read the source `{source}`", hint=hint)
    return name, revision or "main"


def choose(files: Sequence[HubFile], shards: int) -> tuple[list[HubFile], list[str]]:
    """Choose which files to take, and pin their splits where the source comes in shards.

    Three or more parquet files: the last is validation, the one before it test, the first `shards` of the
    others training. Fewer, or another format: all, split by hash. Files named as held out are left alone
    where others are named as training: the splits are then made of those.

    Returns:
        The files in order, and sentences for the summary.
    """
    known = sorted((f for f in files if f.kind and f.size), key=lambda f: f.name)
    notes = []
    training = [f for f in known if _TRAINING.search(f.name.lower())]
    if training and any(_HELD_OUT.search(f.name.lower()) for f in known):
        mine = [f for f in training if not _HELD_OUT.search(f.name.lower())]
        if mine:
            notes.append(f"{len(known) - len(mine)} files not named as training were left out")
            known = mine
    parquet = [f for f in known if f.name.endswith(".parquet")]
    if parquet:
        if len(parquet) < len(known):
            notes.append(f"{len(known) - len(parquet)} files other than parquet were left out")
        known = parquet
    if len(parquet) < 3:
        return known[:shards], notes
    *others, test, validation = known
    pinned: list[tuple[HubFile, DataSplit]] = [(f, "train") for f in others[:shards]]
    pinned += [(test, "test"), (validation, "validation")]
    return [HubFile(f.name, f.size, f.sha256, split) for f, split in pinned], notes


@dataclass(frozen=True)
class HubPlan:
    """What a hub source consists of, and what of it is here."""

    source: str
    name: str
    sha: str
    files: tuple[HubFile, ...]
    missing: tuple[HubFile, ...]
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(f.size for f in self.files)

    @property
    def missing_bytes(self) -> int:
        """Of the files that must be fetched."""
        return sum(f.size for f in self.missing)


def plan_hub(source: str, shards: int, *, offline: bool) -> HubPlan:
    """Ask the hub what there is, choose, and see what is here already.

    Args:
        source: `hf://datasets/OWNER/NAME[@revision]`.
        shards: Training shards to take.
        offline: Use only what is stored here; so does HF_HUB_OFFLINE.

    Raises:
        UsageError: there is no such dataset, revision, or no file that can be read.
        PrerequisiteError: no access, or offline and not all here.
        AutoresearchError: the network failed.
    """
    name, revision = parse(source)
    _check_settings()
    from huggingface_hub import constants

    offline = offline or constants.HF_HUB_OFFLINE
    stored = read_json(_stored_path(source))
    if offline and not stored:
        raise PrerequisiteError(
            f"`{source}` was never listed on this machine, and this call is offline",
            hint="run `autoresearch prepare` once with a network",
        )
    listed = stored if offline else _ask(source, name, revision)
    files, notes = choose([HubFile(**f) for f in listed["files"]], shards)
    if not files:
        raise UsageError(
            f"`{source}` has no file of {SUFFIXES}",
            hint="choose another dataset, or fetch and convert it and give the folder",
            kind="data_invalid",
        )
    if not offline:
        write_json(_stored_path(source), listed)
    sha = str(listed["sha"])
    missing = [f for f in files if _find_here(name, sha, f) is None]
    if missing and offline:
        raise PrerequisiteError(
            f"{len(missing)} of {len(files)} files of `{source}` are not on this machine, and this call"
            " is offline",
            hint="run `autoresearch prepare` once with a network",
        )
    return HubPlan(source, name, sha, tuple(files), tuple(missing), tuple(notes))


def fetch(plan: HubPlan, advance: Callable[[int], None]) -> Listing:
    """Bring the files of a plan here.

    Args:
        plan: From `plan_hub`.
        advance: Called in this thread with bytes fetched.

    Raises:
        AutoresearchError: the network failed, a file is not what the hub says, no space.
    """
    if plan.missing:
        _check_space(plan.missing_bytes)
        _fetch_all(plan, advance)
    found = []
    for file in plan.files:
        path = _find_here(plan.name, plan.sha, file)
        if path is None:
            raise _wrong(file)
        stat = path.stat()
        found.append(SourceFile(str(path), file.kind, stat.st_size, stat.st_mtime_ns, file.split))
    folder = str(UPSTREAM_DATA.expanduser())
    num_theirs = sum(f.path.startswith(folder) for f in found)
    notes = [f"{num_theirs} files were in `{UPSTREAM_DATA}` already"] if num_theirs else []
    return Listing(plan.source, tuple(found), revision=plan.sha, notes=(*plan.notes, *notes))


def _stored_path(source: str) -> Path:
    safe = re.sub(r"[^\w.@-]", "--", source.removeprefix(HUB_PREFIX))
    return cache_directory() / "hub" / f"{safe}.json"


def _find_here(name: str, sha: str, file: HubFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file.name, revision=sha, repo_type="dataset")
    if isinstance(found, str) and _size(path := Path(found)) == file.size:
        return path
    theirs = UPSTREAM_DATA.expanduser() / Path(file.name).name
    is_same = file.sha256 and _size(theirs) == file.size and file_sha256(theirs) == file.sha256
    return theirs if is_same else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _check_space(size: int) -> None:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size + REST_BYTES:
        raise AutoresearchError(
            f"`{folder}` has {free / GB:.1f} GB free, the download needs"
            f" {(size + REST_BYTES) / GB:.1f} GB",
            hint="make room, set HF_HOME to another disk, or take fewer `--shards`",
            kind="disk",
        )


def _ask(source: str, name: str, revision: str) -> dict[str, Any]:
    """Return `sha` and `files` of a revision."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    ask = partial(HfApi().dataset_info, name, revision=revision, files_metadata=True, timeout=30)
    info = patiently(ask, source)
    files = [
        {
            "name": s.rfilename,
            "size": int(s.size or 0),
            "sha256": str(s.lfs.sha256) if s.lfs else "",
        }
        for s in info.siblings or []
    ]
    return {"sha": info.sha, "files": files}


# Not `snapshot_download`: version 1.2 returns a folder that lacks files when its listing fails, an interrupt waits for
# the shards on their way, and its errors do not name the file.
def _fetch_all(plan: HubPlan, advance: Callable[[int], None]) -> None:
    """Fetch the missing files in parallel; progress is reported in this thread."""
    from huggingface_hub.utils import tqdm

    fetched: SimpleQueue[int] = SimpleQueue()
    stopped = threading.Event()

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]
        """Counts the bytes of all downloads, and stops them."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if stopped.is_set():
                raise InterruptedError("download stopped")
            fetched.put(int(n or 0))
            return None

    with ThreadPoolExecutor(MAX_DOWNLOADS) as executor:
        waiting: set[Future[None]] = {executor.submit(_fetch, plan, f, Bar) for f in plan.missing}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                while not fetched.empty():
                    advance(fetched.get())
                for future in done:
                    future.result()
        except BaseException as exc:
            # After an error the files that are on their way are completed, after an interrupt they are stopped.
            if not isinstance(exc, AutoresearchError):
                stopped.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(plan: HubPlan, file: HubFile, bar: type) -> None:
    """Fetch one file and compare it with the listing; a wrong one is fetched once more."""
    from huggingface_hub import hf_hub_download

    for is_last in (False, True):
        get = partial(
            hf_hub_download,
            plan.name,
            file.name,
            repo_type="dataset",
            revision=plan.sha,
            force_download=is_last,
            tqdm_class=bar,
        )
        path = Path(patiently(get, file.name))
        # The library compares sizes only, and a proxy may alter bytes.
        if path.stat().st_size == file.size and file.sha256 in ("", file_sha256(path)):
            return
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    raise _wrong(file)


def _wrong(file: HubFile) -> AutoresearchError:
    return AutoresearchError(
        f"`{file.name}` does not match the checksum or size that the hub lists",
        hint="run `autoresearch prepare` again; if it stays so, a proxy or mirror (HF_ENDPOINT) alters files",
        kind="data_invalid",
    )


MAX_ATTEMPTS = 5
RETRY_SECONDS = 1.0
"""Wait after the first failure; doubles. A server's own `Retry-After` up to a minute is honoured."""


def patiently(call: Callable[[], Any], what: str) -> Any:
    """Call huggingface_hub again after failures that pass: network, 429, 5xx; others become errors in words.

    It lets errors of its HTTP package through. An AttributeError, or a RuntimeError about a closed client, comes from a
    connection error in another thread, after which it replaces the client that all threads share. hf_xet raises a
    RuntimeError after minutes of tries, so that is not tried again.

    Raises:
        OSError: a file or disk of this machine failed.
        PrerequisiteError: a setting of this machine is wrong, and nothing was sent.
    """
    http = _http_package()
    unsent = (http.InvalidURL, http.UnsupportedProtocol, http.LocalProtocolError)
    pauses = [RETRY_SECONDS * 2**i for i in range(MAX_ATTEMPTS - 1)]
    while True:
        try:
            return call()
        except (
            http.HTTPError,
            *unsent,
            *_NO_NETWORK,
            OSError,
            RuntimeError,
            AttributeError,
        ) as exc:
            if isinstance(exc, InterruptedError) or _is_local(exc):
                raise
            status = _status(exc)
            if status is None and isinstance(exc, (*unsent, *_NO_NETWORK)):
                raise _not_asked(exc, what) from exc
            is_passing = status is None or status in {408, 429} or status >= 500
            if isinstance(exc, RuntimeError):
                is_passing = "has been closed" in str(exc)
            if not is_passing or not pauses:
                raise _explain(exc, status, what) from exc
            time.sleep(max(pauses.pop(0), _asked_pause(exc)))


_NO_NETWORK = (ImportError, ValueError)
"""Of a proxy, a token or an answer that cannot be understood: asking again does not help."""


def _http_package() -> Any:
    """Return the HTTP package of huggingface_hub, `httpx` or `httpx2`: the one that its errors come from."""
    from huggingface_hub import errors

    return sys.modules[errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0]]


def _check_settings() -> None:
    """See that what the environment says to huggingface_hub can be sent.

    Raises:
        PrerequisiteError: names the variable.
    """
    try:
        from huggingface_hub import constants, get_token
    except ValueError as exc:  # a number that is none
        named = [n for n, v in os.environ.items() if n.startswith("HF_") and v and v in str(exc)]
        wrong, problem = named[0] if named else "HF_...", str(exc)
    else:
        token = get_token() or ""
        if re.match(r"https?://[^/]", constants.ENDPOINT) is None:
            wrong, problem = "HF_ENDPOINT", f"`{constants.ENDPOINT}` does not begin with https://"
        elif not (token.isascii() and token.isprintable() and " " not in token):
            wrong, problem = "HF_TOKEN", "the token holds a character that no token has"
        else:
            return
    raise PrerequisiteError(
        f"`{wrong}` is wrong: {problem}", hint=f"correct or unset `{wrong}`", kind="config"
    )


def _not_asked(exc: Exception, what: str) -> AutoresearchError:
    """Return the error for a failure of this machine's settings, or of an answer that is not the hub's."""
    names = ("HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    given = [n for name in names for n in (name, name.lower()) if os.environ.get(n)]
    look = ", ".join(f"`{n}`" for n in given) or "the network"
    if isinstance(exc, json.JSONDecodeError):
        return PrerequisiteError(
            f"what answers for `{what}` is not the hub: no JSON",
            hint=f"look at {look}: does a page to sign in to the network answer?",
        )
    reason = str(exc).strip().partition("\n")[0][:200] or type(exc).__name__
    return PrerequisiteError(
        f"`{what}` cannot be asked for: {reason}", hint=f"correct or unset {look}", kind="config"
    )


def _is_local(exc: BaseException) -> bool:
    full = {errno.ENOSPC, errno.EDQUOT}
    return isinstance(exc, OSError) and (exc.filename is not None or exc.errno in full)


def _responses(exc: BaseException | None) -> Any:
    while exc is not None:
        response = getattr(exc, "response", None)
        if response is not None:
            return response
        exc = exc.__cause__ or exc.__context__
    return None


def _status(exc: BaseException) -> int | None:
    response = _responses(exc)
    return None if response is None else int(response.status_code)


def _asked_pause(exc: BaseException) -> float:
    response = _responses(exc)
    value = "" if response is None else response.headers.get("Retry-After", "")
    return min(60.0, float(value)) if value.isdigit() else 0.0


def _explain(exc: BaseException, status: int | None, what: str) -> AutoresearchError:
    from huggingface_hub import errors

    if isinstance(exc, errors.GatedRepoError) or status == 403:
        return PrerequisiteError(
            f"no access to `{what}`",
            hint="accept its terms on its page, then set HF_TOKEN or run `hf auth login`",
            kind="data_missing",
        )
    if isinstance(exc, errors.RevisionNotFoundError):
        return UsageError(
            f"`{what}` has no such revision", hint="leave `@revision` out for the newest"
        )
    if isinstance(exc, errors.RepositoryNotFoundError) or status == 401:
        return PrerequisiteError(
            f"there is no dataset `{what}`, or it needs a token",
            hint="check the name; if it is private, set HF_TOKEN or run `hf auth login`",
            kind="data_missing",
        )
    if status == 404:
        return UsageError(f"the hub has no `{what}`", hint="check the name", kind="data_invalid")
    if status == 429:
        return AutoresearchError(
            f"the hub refuses more requests for `{what}` (429)",
            hint="run `autoresearch prepare` again later: what was fetched is kept; HF_TOKEN raises the limit",
            kind="data_missing",
        )
    reason = str(exc).strip().splitlines()
    return AutoresearchError(
        f"could not fetch `{what}`: {reason[0][:200] if reason else type(exc).__name__}",
        hint="check the network (a mirror is set by HF_ENDPOINT), then run `autoresearch prepare` again:"
        " what was fetched is kept",
        kind="data_missing",
    )
