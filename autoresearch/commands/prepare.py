"""`autoresearch prepare`: text to tokenizer to token shards, once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoresearch.commands import DryRunOption, option, option_of, state

if TYPE_CHECKING:
    from autoresearch.config import Config
    from autoresearch.tasks.gpt.data.pipeline import PrepareSummary
    from autoresearch.ui.console import OutputMode


def prepare(
    ctx: typer.Context,
    source: Annotated[str | None, option_of("data.source")] = None,
    text_column: Annotated[str | None, option_of("data.text_column")] = None,
    shards: Annotated[int | None, option_of("data.shards")] = None,
    max_bytes: Annotated[int | None, option_of("data.max_bytes")] = None,
    vocab_size: Annotated[int | None, option_of("data.vocab_size")] = None,
    offline: Annotated[
        bool, option("--offline", "Use only what is cached; never the network.")
    ] = False,
    is_check: Annotated[
        bool, option("--check", "Verify the checksums of what was prepared, and exit.")
    ] = False,
    is_list: Annotated[
        bool, option("--list", "Show what was prepared, with its size, and exit.")
    ] = False,
    remove: Annotated[
        list[str] | None,
        option("--remove KEY", "Remove a dataset that `--list` shows; repeatable."),
    ] = None,
    is_dry_run: DryRunOption = False,
) -> None:
    """Turn a source of text into a tokenizer and token shards in the cache.

    Done once for all run directories with the same settings: a second call only lists what is there, and an
    interrupted one continues where it stopped.
    """
    import os

    from autoresearch.commands._common import require_trust
    from autoresearch.config import load_config
    from autoresearch.errors import PrerequisiteError
    from autoresearch.paths import CONFIG_NAME, find_run_directory
    from autoresearch.tasks.gpt.data.sources import normalise

    mode = state(ctx).mode
    run_directory = None
    try:
        run_directory = find_run_directory()
    except PrerequisiteError as exc:
        is_named = source or "AUTORESEARCH_DATA_SOURCE" in os.environ
        if not (is_named or is_list or remove or is_check):
            exc.hint = f"{exc.hint}; or name a text: `autoresearch prepare --source builtin:python`"
            raise
    flags: dict[str, Any] = {
        "data.source": source and normalise(source, Path.cwd()),
        "data.text_column": text_column,
        "data.shards": shards,
        "data.max_bytes": max_bytes,
        "data.vocab_size": vocab_size,
    }
    loaded = load_config(run_directory, flags)
    config = loaded.config
    if config.task.kind == "program" and not (source or is_list or remove):
        mode.say(
            "nothing to prepare: a program is scored by its evaluator; `autoresearch doctor` checks it"
        )
        return
    if is_list or remove:
        _manage(mode, config, remove or [], is_dry_run=is_dry_run)
        return
    if is_check:
        _check(mode, config)
        return
    if is_dry_run:
        _show_plan(mode, config, offline=offline)
        return
    if run_directory is not None:
        require_trust(mode, run_directory, loaded)
    prepare_and_show(mode, config, offline=offline)
    stored = load_config(run_directory).config.data.model_dump()
    changed = {
        key.removeprefix("data."): value
        for key, value in flags.items()
        if value is not None and stored[key.removeprefix("data.")] != value
    }
    if changed and run_directory is not None:
        lines = ", ".join(f"{name} = {_toml(value)}" for name, value in changed.items())
        mode.warn(
            f"{CONFIG_NAME} says otherwise, and `run` trains on what it says: to use what was prepared just now,"
            f" write under `[data]`: {lines}"
        )


def prepare_and_show(mode: OutputMode, config: Config, *, offline: bool = False) -> PrepareSummary:
    """Prepare with progress on the screen, then show what there is.

    Raises:
        AutoresearchError: it could not be done.
    """
    from autoresearch.tasks.gpt.data.pipeline import PrepareProgress
    from autoresearch.tasks.gpt.data.prepare import prepare as make
    from autoresearch.ui.progress import PhaseProgress

    with PhaseProgress(mode) as show:

        def on_progress(now: PrepareProgress) -> None:
            unit = "B" if now.unit == "bytes" else now.unit
            show.update(now.phase, now.done, now.total or None, unit=unit, detail=now.detail)

        try:
            summary = make(config, on_progress=on_progress, offline=offline)
        except KeyboardInterrupt:
            mode.say("`autoresearch prepare` continues where it stopped", style="hint")
            raise
    if mode.is_json:
        mode.json(summary.to_json())
    else:
        _show(mode, summary)
    return summary


def _show(mode: OutputMode, summary: PrepareSummary) -> None:
    from autoresearch.ui import text as f

    did = f"in {f.duration(summary.seconds)}" if summary.is_new else "already; nothing to do"
    short = summary.revision[:12] if len(summary.revision) == 40 else summary.revision
    revision = f" ({short})" if short else ""
    mode.say(f"prepared {summary.source}{revision} {did}")
    for split, counts in summary.splits.items():
        rows = summary.eval_rows.get(split)
        judged = f"  {rows:,} rows to score" if rows else ""
        mode.say(
            f"  {split:<11} {f.count(counts['tokens']):>7} tokens  {f.size(counts['bytes']):>9}"
            f"  {counts['documents']:,} documents{judged}"
        )
    left_out = {**summary.skipped, "duplicates": sum(summary.duplicates.values())}
    parts = [f"{count:,} {reason}" for reason, count in sorted(left_out.items()) if count]
    if parts:
        mode.say(f"  left out    {', '.join(parts)}")
    mode.say(
        f"  {summary.vocab_size:,} tokens in the vocabulary, {summary.num_shards} shards,"
        f" {f.size(summary.disk_bytes)} in `{summary.path}`"
    )
    mode.say(f"  a model that only counts tokens scores {f.score(summary.unigram_bpb)} val_bpb")
    for warning in summary.warnings:
        mode.warn(warning)


def _show_plan(mode: OutputMode, config: Config, *, offline: bool) -> None:
    import dataclasses

    from autoresearch.tasks.gpt.data.prepare import plan
    from autoresearch.ui import text as f

    planned = plan(config, offline=offline)
    if mode.is_json:
        mode.json(dataclasses.asdict(planned))
    elif planned.is_done:
        mode.say(f"{planned.source} is prepared already; nothing to do")
    else:
        fetched = f", {f.size(planned.download_bytes)} to fetch" if planned.download_bytes else ""
        mode.say(
            f"would prepare {planned.source}: {planned.num_files:,} files,"
            f" {f.size(planned.num_bytes)}{fetched}"
        )
        mode.say(
            f"  needs at most {f.size(planned.disk_bytes)} of disk;"
            f" {f.size(planned.free_bytes)} are free"
        )


def _check(mode: OutputMode, config: Config) -> None:
    from autoresearch.errors import WorkError
    from autoresearch.tasks.gpt.data.pipeline import PrepareProgress
    from autoresearch.tasks.gpt.data.prepare import check
    from autoresearch.ui.progress import PhaseProgress

    with PhaseProgress(mode) as show:

        def on_progress(now: PrepareProgress) -> None:
            show.update(now.phase, now.done, now.total, unit="B", detail=now.detail)

        wrong = check(config, on_progress)
    if wrong:
        raise WorkError(
            "; ".join(wrong),
            hint="run `autoresearch prepare`, which makes the damaged files again",
            kind="data_invalid",
        )
    if mode.is_json:
        mode.json({"ok": True})
    else:
        mode.say("every file matches its checksum")


def _manage(mode: OutputMode, config: Config, remove: list[str], *, is_dry_run: bool) -> None:
    """Remove datasets, or list them."""
    from autoresearch.tasks.gpt.data.prepare import list_cached, remove_cached
    from autoresearch.ui import text as f

    found = remove_cached(config, remove, is_dry_run=is_dry_run) if remove else list_cached(config)
    if mode.is_json:
        mode.json([one.to_json() for one in found])
        return
    if remove:
        did = "would remove" if is_dry_run else "removed"
        for one in found:
            mode.say(f.clean(f"{did} {one.key} {one.source}, {f.size(one.disk_bytes)}"))
        return
    for one in found:
        mark = ", used here" if one.is_current else ""
        mode.data(
            f.clean(
                f"{one.key}  {f.size(one.disk_bytes):>9}  {one.created_at[:10]:<10}"
                f"  {one.state}{mark}  {one.source}"
            )
        )
    total = sum(one.disk_bytes for one in found)
    mode.say(f"{len(found)} in the cache, {f.size(total)}; `--remove KEY` removes one")


def _toml(value: object) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'
