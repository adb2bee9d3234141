"""Puts a lab together from a run directory: configuration, data, sandbox, executor, setup."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autoresearch.config import Config, Loaded, load_config
from autoresearch.paths import RunDirectory, find_run_directory
from autoresearch.types import Setup

if TYPE_CHECKING:
    from autoresearch.data.dataset import Dataset
    from autoresearch.execution.local import LocalExecutor
    from autoresearch.machine.hardware import Hardware
    from autoresearch.sandbox import Sandbox


@dataclass(frozen=True)
class Lab:
    """Everything a trial needs, opened and checked."""

    run_directory: RunDirectory
    loaded: Loaded
    dataset: "Dataset"
    hardware: "Hardware"
    sandbox: "Sandbox"
    setup: Setup
    executor: "LocalExecutor"

    @property
    def config(self) -> Config:
        """The validated settings."""
        return self.loaded.config

    @property
    def is_unsafe(self) -> bool:
        """Whether trials run without a sandbox."""
        return self.sandbox.name == "none"


def open_run_directory(overrides: Mapping[str, Any] | None = None) -> tuple[RunDirectory, Loaded]:
    """Return the run directory of the current folder and its configuration.

    Raises:
        PrerequisiteError: the current folder is in no run directory.
        ConfigError: a setting is wrong.
    """
    run_directory = find_run_directory()
    return run_directory, load_config(run_directory, overrides)


def assemble(
    run_directory: RunDirectory, loaded: Loaded, *, is_unsafe_allowed: bool = False
) -> Lab:
    """Open the data, choose the sandbox, look at the hardware.

    Args:
        run_directory: Where the session lives.
        loaded: Its configuration.
        is_unsafe_allowed: Take no sandbox rather than stop where none works.

    Raises:
        PrerequisiteError: the data is not prepared, or there is no sandbox.
    """
    from autoresearch.data.prepare import open_dataset
    from autoresearch.execution.local import LocalExecutor
    from autoresearch.machine.attention import VARIABLE
    from autoresearch.machine.hardware import describe, device_of
    from autoresearch.sandbox import choose

    config = loaded.config
    dataset = open_dataset(config)
    hardware = describe(config.trial.device)
    sandbox = choose(config.sandbox.backend, is_unsafe_allowed=is_unsafe_allowed)
    setup = make_setup(config, dataset, hardware)
    setup = replace(setup, attention=attention_of(config, hardware))
    executor = LocalExecutor(
        config,
        dataset,
        sandbox,
        scratch=run_directory.trials,
        log_directory=run_directory.logs,
        cache=run_directory.cache / setup.key,
        environment={VARIABLE: setup.attention},
        device=device_of(hardware.kind),
    )
    return Lab(run_directory, loaded, dataset, hardware, sandbox, setup, executor)


def attention_of(config: Config, hardware: "Hardware") -> str:
    """Return the attention kernels of every process of this setup, measured once on a GPU.

    Raises:
        AutoresearchError: they cannot be measured.
    """
    from autoresearch.machine.attention import DEFAULT, choose_attention

    if config.trial.device == "cpu":
        return DEFAULT
    return choose_attention(hardware, max_seq_len=config.trial.max_seq_len).choice


def make_setup(config: Config, dataset: "Dataset", hardware: "Hardware") -> Setup:
    """Return what makes the numbers of this machine, data and configuration comparable.

    Args:
        config: All settings.
        dataset: What is trained and judged on.
        hardware: Of the device in `[trial] device`, which need not be the machine's best.
    """
    from autoresearch.judge.score import JUDGE_VERSION

    context = config.judge.context
    return Setup(
        gpu=hardware.name,
        torch=hardware.torch,
        driver=hardware.driver or "",
        budget_seconds=config.trial.budget_seconds,
        data=dataset.key,
        judge=JUDGE_VERSION,
        max_seq_len=config.trial.max_seq_len,
        eval_tokens=config.judge.eval_tokens,
        context=0 if context == config.trial.max_seq_len else context,
    )


def lock_device(
    hardware: "Hardware", run_directory: RunDirectory
) -> contextlib.AbstractContextManager[object]:
    """Return a lock on the GPU, held as a context manager; on a CPU nothing is locked.

    Raises:
        WorkError: on entering, when another run holds the GPU (kind `locked`); names it.
    """
    from autoresearch.machine.hardware import gpu_uuid
    from autoresearch.util.locks import gpu_lock

    if hardware.kind == "cpu":
        return contextlib.nullcontext()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES")
    name = gpu_uuid() or f"{hardware.kind}-{(visible or '0').split(',')[0]}"
    return gpu_lock(name, f"`{run_directory.root}`")
