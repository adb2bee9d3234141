"""The local executor: one trial on this machine, from a snapshot to a judged result."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch.config import Config
from autoresearch.errors import WorkError
from autoresearch.events import Progress
from autoresearch.paths import weights_file
from autoresearch.sandbox import Sandbox
from autoresearch.tasks.gpt import weights_format
from autoresearch.tasks.gpt.compile_cache import MAX_BYTES, CompileCaches
from autoresearch.tasks.gpt.data.dataset import SPARE, Dataset
from autoresearch.tasks.gpt.data.packing import Packer
from autoresearch.tasks.gpt.feeder_process import FeederProcess
from autoresearch.tasks.gpt.judge.audit import TOLERANCE
from autoresearch.tasks.gpt.judge.process import JudgeProcess, Work
from autoresearch.tasks.gpt.judge.run import SUSPICIOUS_FACTOR, Judged, judge_weights
from autoresearch.tasks.gpt.judge.score import NoScoreError, Text
from autoresearch.tasks.gpt.training import Limits, Trained, Training
from autoresearch.trial.child.script import BYTES_VARIABLE, CHECKED_VARIABLE
from autoresearch.trial.process import Child, suspended_seconds
from autoresearch.trial.snapshot import Folder
from autoresearch.types import (
    MB,
    WEIGHTS_LOST,
    Calibration,
    Outcome,
    Purpose,
    Split,
    TrialResult,
    TrialSpec,
)
from autoresearch.util import host
from autoresearch.util.files import make_folder, write_file
from autoresearch.util.killpoints import reach

HUNG_SECONDS = 120.0
"""A trial that takes no batch for so long counts as hung."""
MAX_WEIGHTS_BYTES = 20 << 30
_SUSPEND_SECONDS = 2.0
# Start-up of a GPU trial before there are compile caches: two cores compile the first kernels for several minutes.
_COLD_SECONDS = 900.0
# What torch logs when it gives up compiling a function for yet another kind of input.
_RECOMPILE_LIMIT = "config.recompile_limit"
# A share of the budget and a constant that any training may take to finish its last step and hand in.
_ALLOWANCE_SECONDS = 1.0
_ALLOWANCE_SHARE = 0.005
# And to hand in: beyond this and the baseline's own time, it trained on.
_USUAL_SECONDS = 0.25
_USUAL_SHARE = 0.001
# Of the budget are left when the claim process is started on a GPU.
_EARLY_SECONDS = 30.0
_ATTENTION = "AUTORESEARCH_ATTENTION"
_REFERENCE_NAME = "reference.npy"
# The same before the baseline's own submit time is known.
_FIRST_ALLOWANCE_SECONDS = 5.0
_FIRST_ALLOWANCE_SHARE = 0.1


class GptExecutor:
    """Runs trials on this machine, one at a time.

    Args:
        config: The settings.
        dataset: Prepared text.
        sandbox: What keeps children in.
        scratch: Where private folders are made, one each process, removed afterwards.
        log_directory: Where the output of each trial goes, `<label>.log`; None keeps no files.
        cache: Folder of what outlives a trial under one setup (compile caches, the baseline's claim); None keeps none.
        environment: Added to that of every process of a trial: what was chosen once for the setup.
        device: What `[trial] device = "auto"` means on this machine; None lets every trial look for itself.
        calibration: What an earlier run measured.

    What is not known yet is measured on the first good trial of the code at the tip (`Purpose.is_of_tip`).
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        sandbox: Sandbox,
        *,
        scratch: Path,
        log_directory: Path | None = None,
        cache: Path | None = None,
        environment: Mapping[str, str] | None = None,
        device: str | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.calibration = calibration or Calibration()
        self.hung_seconds = HUNG_SECONDS
        self._cache = cache
        # A quarter of what a child may write: it copies them.
        max_bytes = min(MAX_BYTES, config.sandbox.disk_mb * MB // 4)
        self._caches = CompileCaches(cache / "compile", max_bytes) if cache else None
        self._environment = dict(environment or {})
        self._reference: np.ndarray | None = None
        if device is not None and config.trial.device == "auto":
            trial = config.trial.model_copy(update={"device": device})
            config = config.model_copy(update={"trial": trial})
        self._config = config
        self._dataset = dataset
        self._sandbox = sandbox
        self._scratch = scratch
        self._log_directory = log_directory
        self._all_rows: dict[Split, np.ndarray] = {}
        self._texts: dict[Split, tuple[int, Text]] = {}
        self._packer: Packer | None = None
        self._judged: set[int] = set()

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        """Train, judge, and say how it went; whatever the child does is a result, never an exception.

        Raises:
            AutoresearchError: the lab itself cannot work (disk full, no memory file).
        """
        stop = stop or threading.Event()
        host.forget_caches()  # names that an earlier trial looked up
        began_at, slept = time.monotonic(), suspended_seconds()
        trained, early = self._train(spec, on_progress, stop)
        with early or contextlib.nullcontext():
            self._write_log(spec, trained)
            if trained.outcome is None and trained.weights is not None:
                with memoryview(trained.weights) as weights:
                    problem = weights_format.problem_of(weights)
                if problem:
                    trained.outcome, trained.reason = Outcome.CRASH, "exception"
                    trained.detail = f"the weights are no safetensors file: {problem}"
            result = self._result(spec, trained)
            if trained.outcome is None:
                result.update(self._judge(spec, trained, early, on_progress, stop))
                if suspended_seconds() - slept > _SUSPEND_SECONDS:
                    result.update(outcome=Outcome.TAINTED, reason="suspended", score=None)
                    result["detail"] = "the machine slept while judging"
        is_ok = result["outcome"] is Outcome.OK
        if is_ok and spec.purpose.is_of_tip and self._caches is not None:
            self._caches.keep(spec.label, is_baseline=spec.purpose is Purpose.BASELINE)
        if is_ok:
            self._judged.add(self._code_of(spec))
        if spec.keep_weights and is_ok and (problem := self._save_weights(spec, trained)):
            result["extra"] = {**result["extra"], WEIGHTS_LOST: problem}
        if trained.weights is not None:
            trained.weights.close()
        found = TrialResult(**result, total_seconds=time.monotonic() - began_at)
        if is_ok and spec.purpose.is_of_tip:
            self.calibration = self.calibration.learnt_from(found)
        return found

    def use_attention(self, choice: str) -> None:
        """Pass this choice of attention kernels to every process from now on."""
        self._environment[_ATTENTION] = choice

    def keep_caches(self, label: str) -> None:
        """Let later trials use what the last trial compiled, if that was the trial `label`: it is kept."""
        if self._caches is not None:
            self._caches.keep(label)

    def allowance_seconds(self, budget_seconds: float) -> float:
        """Return the seconds after the budget within which the last byte of the weights must be here.

        Twice the baseline's own submit time, and at least what finishing one step takes.
        """
        if self.calibration.submit_seconds is None:
            return _FIRST_ALLOWANCE_SECONDS + _FIRST_ALLOWANCE_SHARE * budget_seconds
        floor = _ALLOWANCE_SECONDS + _ALLOWANCE_SHARE * budget_seconds
        return max(floor, 2 * self.calibration.submit_seconds)

    def usual_seconds(self, budget_seconds: float) -> float | None:
        """Return how much of the allowance handing in explains, besides one step; None before there is a baseline."""
        submit = self.calibration.submit_seconds
        if submit is None:
            return None
        return 2 * submit + _USUAL_SECONDS + _USUAL_SHARE * budget_seconds

    def _told(self, spec: TrialSpec) -> dict[str, str]:
        """Return what a script of upstream's shape needs to know: see `trial/child/compat/`."""
        train = self._dataset.manifest["splits"]["train"]
        told = {BYTES_VARIABLE: f"{train['bytes'] / max(1, train['tokens']):.6g}"}
        return {**told, CHECKED_VARIABLE: "1"} if self._code_of(spec) in self._judged else told

    def _code_of(self, spec: TrialSpec) -> int:
        return hash(frozenset(spec.files.items()))

    def _train(
        self, spec: TrialSpec, on_progress: Callable[[Progress], None] | None, stop: threading.Event
    ) -> tuple[Trained, JudgeProcess | None]:
        trial = self._config.trial
        caches = self._caches
        startup_seconds = trial.startup_seconds
        if caches and caches.is_cold and trial.device == "cuda":
            startup_seconds = max(startup_seconds, _COLD_SECONDS)
        limits = Limits(
            startup_seconds=startup_seconds,
            budget_seconds=spec.budget_seconds,
            allowance_seconds=self.allowance_seconds(spec.budget_seconds),
            hung_seconds=self.hung_seconds,
            max_weights_bytes=MAX_WEIGHTS_BYTES,
            usual_seconds=self.usual_seconds(spec.budget_seconds),
            divergence_loss=1.5 * math.log(self._dataset.vocab_size) + 2.0,
        )
        if caches:
            caches.drop()
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(Folder(self._scratch, spec.label, spec.files))
            reach("snapshot_written")
            feeder = FeederProcess(
                self._dataset.path, seed=spec.seed, max_seq_len=trial.max_seq_len
            )
            stack.callback(feeder.close)
            child = Child(
                "train",
                config=self._config,
                sandbox=self._sandbox,
                folder=folder,
                file=self._file,
                is_heard=True,
                environment={**self._environment, **self._told(spec)},
                caches=caches.for_training() if caches else (),
            )
            stack.callback(child.close)
            reach("trial_started")
            since = time.time()

            def take_caches() -> None:
                if caches:
                    caches.take(folder.cache, spec.label, since)

            early: list[JudgeProcess] = []

            def start_claim(device: str) -> None:
                # Imports torch while the GPU trains, no more; on a CPU it would take the trainer's.
                if device != "cpu":
                    work = replace(self._work(spec, stop), device=device)
                    early.append(JudgeProcess(work, "claim"))

            training = Training(
                child,
                feeder,
                spec,
                self._config,
                limits,
                vocab_size=self._dataset.vocab_size,
                on_progress=on_progress,
                stop=stop,
                on_start=take_caches,
                on_late=start_claim,
                late_seconds=min(_EARLY_SECONDS, spec.budget_seconds / 2),
            )
            # What judging needs is read while the child imports torch.
            self._work(spec, stop)
            try:
                trained = training.run()
            except BaseException:
                for process in early:
                    process.close()
                raise
            if trained.reason == "startup_timeout" and spec.purpose.is_of_tip and caches:
                caches.keep_partial(spec.label)
            if trained.weights is not None:
                reach("weights_in")
            return trained, early[0] if early else None

    def _judge(
        self,
        spec: TrialSpec,
        trained: Trained,
        early: JudgeProcess | None,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event,
    ) -> dict[str, Any]:
        """Return the fields of the result that judging gives."""
        began_at = time.monotonic()
        assert trained.weights is not None
        ends: list[str] = []

        def tell(phase: str) -> None:
            if on_progress is not None:
                on_progress(
                    Progress(
                        number=spec.number,
                        label=spec.label,
                        phase=phase,
                        seconds=time.monotonic() - began_at,
                        budget_seconds=spec.budget_seconds,
                        num_tokens=trained.num_tokens or 0,
                        num_steps=trained.num_steps or 0,
                    )
                )

        work = replace(
            self._work(spec, stop),
            weights=memoryview(trained.weights),
            device=trained.device,
            unseen=self._unseen() if spec.purpose is Purpose.ALARM else None,
            on_phase=tell,
            on_end=ends.append,
        )
        fields: dict[str, Any]
        try:
            judged: Judged = judge_weights(work, early)
        except NoScoreError as exc:
            fields = {"outcome": exc.outcome, "reason": exc.reason, "detail": exc.detail}
        except (OSError, MemoryError) as exc:  # of this machine: judging is shown all in memory
            detail = f"out of memory or disk space while scoring: {getattr(exc, 'strerror', None) or exc}"
            fields = {"outcome": Outcome.TAINTED, "reason": "judge", "detail": detail}
        else:
            score = judged.score
            self._learn(spec, judged)
            _, _, is_seen = self._judged_rows(spec.split, spec.part)
            seen = {"is_text_seen": True} if is_seen else {}
            fields = {
                "outcome": Outcome.OK,
                "score": score.score,
                "claimed_score": score.claimed_score,
                "score_se": score.score_se,
                "num_audited": score.num_audited,
                "extra": {**self._extra(trained), **judged.extra, **seen},
            }
        finally:
            work.weights.release()
        if ends:
            fields["extra"] = {**fields.get("extra", self._extra(trained)), "judging_ends": ends}
        return {**fields, "judge_seconds": time.monotonic() - began_at}

    def _learn(self, spec: TrialSpec, judged: Judged) -> None:
        """Keep the claim of an audited trial of the code at the tip, for the audits of all others."""
        if not spec.purpose.is_of_tip or not judged.score.num_audited:
            return
        if self._reference is None and spec.split == "validation":
            self._reference = (-judged.log_p).astype(np.float16)
            if self._cache is not None:
                reference, path = self._reference, self._cache / _REFERENCE_NAME
                with contextlib.suppress(WorkError):  # a full disk: it is only measured again
                    write_file(path, lambda file: np.save(file, reference, allow_pickle=False))

    def _known_reference(self, split: Split) -> np.ndarray | None:
        """Return the baseline's claim, float16 (num_rows, context), also one of an earlier run."""
        if split != "validation":
            return None
        if self._reference is None and self._cache is not None:
            with contextlib.suppress(OSError, ValueError):
                found = np.load(self._cache / _REFERENCE_NAME, allow_pickle=False)
                if found.shape == self._text(split, 0).num_bytes.shape:
                    self._reference = found
        return self._reference

    def _work(self, spec: TrialSpec, stop: threading.Event) -> Work:
        """Return what judging needs but the weights."""
        return Work(
            config=self._config,
            sandbox=self._sandbox,
            scratch=self._scratch,
            spec=spec,
            file=self._file,
            weights=memoryview(b""),
            device="cpu",
            vocab_size=self._dataset.vocab_size,
            text=self._text(spec.split, spec.part),
            training=self._training_rows,
            tolerance=max(TOLERANCE, self.calibration.tolerance or 0.0),
            is_calibrating=spec.purpose.is_of_tip and self.calibration.tolerance is None,
            noise_nats=self.calibration.noise_nats,
            reference=self._known_reference(spec.split),
            stop=stop,
            environment=self._environment,
            # Kernels compiled for training serve no forward pass; FlexAttention's own do.
            caches=self._caches.for_judging() if self._caches and "flex" in self._attention else (),
        )

    @property
    def _attention(self) -> str:
        return self._environment.get(_ATTENTION, "")

    @property
    def _file(self) -> str:
        return self._config.task.editable[0]

    def _text(self, split: Split, part: int) -> Text:
        """Return the rows of a split that are judged; kept between trials."""
        known = self._texts.get(split)
        if known is None or known[0] != part:
            first, num, _ = self._judged_rows(split, part)
            known = part, self._make_text(self._rows(split)[first : first + num])
            self._texts[split] = known
        return known[1]

    def _unseen(self) -> Text:
        """Return rows of validation that no claim is shown, drawn again each time."""
        _, num, _ = self._judged_rows("validation", 0)
        rest = self._rows("validation")[num:]
        most = SUSPICIOUS_FACTOR * self._config.judge.audit_positions
        chosen = np.random.default_rng().permutation(len(rest))[:most]
        return self._make_text(rest[np.sort(chosen)])

    def _make_text(self, rows: np.ndarray) -> Text:
        return Text.make(np.asarray(rows), self._dataset.token_bytes)

    def _rows(self, split: Split) -> np.ndarray:
        """Return the rows of a split, memory-mapped; the first of them are judged first."""
        if split not in self._all_rows:
            settings = self._config.judge
            num_tokens = SPARE * settings.eval_tokens
            self._all_rows[split] = self._dataset.eval_rows(split, settings.context, num_tokens)
        return self._all_rows[split]

    def _judged_rows(self, split: Split, part: int) -> tuple[int, int, bool]:
        """Return the first row that is judged, how many are, and whether they were with another part already.

        Of the test split a part is what `[judge] eval_tokens` asks for, or less, so that the pairs of a confirmation
        have a part each. Where all are used up, the first is judged again.
        """
        settings, total = self._config.judge, len(self._rows(split))
        num = min(max(1, settings.eval_tokens // settings.context), total)
        if split == "test":
            share = total // max(1, self._config.session.confirm_trials)
            num = min(num, max(share, min(settings.batch_rows, total)))
        num_parts = total // num
        return part % num_parts * num, num, part >= num_parts

    def _training_rows(self, count: int) -> np.ndarray:
        """Return int32 (count, context + 1) fresh rows of training text."""
        rows = np.zeros((count, self._config.judge.context + 1), np.int32)
        if count:
            if self._packer is None:
                seed = np.random.SeedSequence().generate_state(1)[0]
                self._packer = Packer(self._dataset.store("train"), seed=int(seed))
            self._packer.fill(rows)
        return rows

    def _extra(self, trained: Trained) -> dict[str, Any]:
        return {
            "device": trained.device,
            "epoch": trained.epoch,
            "num_log_bytes": trained.output.num_bytes,
            **({"attention": self._attention} if self._attention else {}),
            **({"is_partly_uncompiled": True} if _RECOMPILE_LIMIT in trained.output.text else {}),
        }

    def _result(self, spec: TrialSpec, trained: Trained) -> dict[str, Any]:
        """Return the fields of the result that the training gives."""
        rate = None
        if trained.num_tokens and trained.train_seconds:
            # The last step ends after the budget; tokens are taken within it.
            rate = trained.num_tokens / min(trained.train_seconds, spec.budget_seconds)
        return {
            "seed": spec.seed,
            "outcome": trained.outcome or Outcome.OK,
            "reason": trained.reason,
            "detail": trained.detail,
            "split": spec.split,
            "num_tokens": trained.num_tokens,
            "num_steps": trained.num_steps,
            "train_seconds": trained.train_seconds,
            "startup_seconds": trained.startup_seconds,
            "submit_seconds": trained.submit_seconds,
            "tokens_per_second": rate,
            "peak_memory_mb": trained.peak_memory_mb,
            "num_params": trained.num_params,
            "curve": tuple(trained.curve),
            "log_tail": trained.output.tail,
            "sandbox": self._sandbox.name,
            "extra": self._extra(trained),
        }

    def _write_log(self, spec: TrialSpec, trained: Trained) -> None:
        if self._log_directory is None or not spec.label:
            return
        with contextlib.suppress(OSError):
            path = self._log_directory / f"{spec.label}.log"
            make_folder(path.parent)
            path.write_text(trained.output.text, encoding="utf-8")

    def _save_weights(self, spec: TrialSpec, trained: Trained) -> str:
        """Write the weights as they came to `paths.weights_file`, which the caller moves or deletes; or say why not."""
        assert trained.weights is not None
        path = weights_file(self._scratch, spec.label)
        try:
            make_folder(path.parent)
            with path.open("wb") as file:
                file.write(trained.weights)
        except OSError as exc:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return exc.strerror or str(exc)
        return ""
