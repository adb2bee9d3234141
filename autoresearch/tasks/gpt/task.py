"""The task `gpt`: its data, its setup, and the device that trains and judges."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autoresearch.config import Config
from autoresearch.paths import RunDirectory
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Setup

if TYPE_CHECKING:
    from autoresearch.machine.hardware import Hardware
    from autoresearch.sandbox import Sandbox
    from autoresearch.tasks.gpt.data.dataset import Dataset


class GptTask:
    """Trains a language model on prepared text; see `tasks.task.Task`.

    Raises:
        PrerequisiteError: the data is not prepared.
    """

    metric = METRIC

    def __init__(
        self, run_directory: RunDirectory, config: Config, hardware: "Hardware", sandbox: "Sandbox"
    ) -> None:
        from autoresearch.machine.hardware import device_of
        from autoresearch.tasks.gpt.attention import DEFAULT, VARIABLE, choose_attention
        from autoresearch.tasks.gpt.data.prepare import open_dataset
        from autoresearch.tasks.gpt.executor import GptExecutor

        dataset = open_dataset(config)
        attention = DEFAULT
        if config.trial.device != "cpu":  # measured once per setup
            max_seq_len = config.trial.max_seq_len
            attention = choose_attention(hardware, max_seq_len=max_seq_len).choice
        self.setup = replace(make_setup(config, dataset, hardware), attention=attention)
        self.executor = GptExecutor(
            config,
            dataset,
            sandbox,
            scratch=run_directory.trials,
            log_directory=run_directory.logs,
            cache=run_directory.cache / self.setup.key,
            environment={VARIABLE: attention},
            device=device_of(hardware.kind),
        )
        self.facts: dict[str, Any] = {
            "data": dataset.manifest,
            "trivial_score": dataset.unigram_bpb,
            "is_validation_visible": dataset.is_visible,
        }


def make_setup(config: Config, dataset: "Dataset", hardware: "Hardware") -> Setup:
    """Return what makes the numbers of this data, configuration and device comparable."""
    from autoresearch.tasks.gpt.judge.score import JUDGE_VERSION

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
