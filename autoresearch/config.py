"""Every setting of autoresearch, declared once: name, type, default, bounds, meaning and flag.

The reference autoresearch.toml, docs/reference.md and the `--help` of flags are made from these declarations.
Precedence: flags > AUTORESEARCH_<SECTION>_<KEY> > the run directory's autoresearch.toml > the defaults.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from autoresearch.errors import ConfigError
from autoresearch.paths import CONFIG_NAME, RunDirectory, is_safe
from autoresearch.types import LARGEST, ConfiguredProposer
from autoresearch.util.text import hide

FLAG = "flags"
"""The source in `Loaded.sources` of a value given on the command line."""

REMOVED = {
    "data": "memory_mb tokenizer_bytes workers",
    "decision": "complexity_price learn_across_sessions max_memory_mb memory_price memory_slack prefer_simpler"
    " sentinel_every",
    "judge": "audit_share tolerance",
    "proposer": "max_rounds outage_minutes temperature",
    "sandbox": "max_processes",
    "session": "confirm_share",
    "storage": "max_logs_mb max_weights_mb",
    "trial": "hung_seconds max_log_bytes max_weights_mb",
}
"""Section -> settings of earlier versions, for the message that says so."""


def setting(default: Any, meaning: str, *, flag: str = "", **bounds: Any) -> Any:
    """Return the declaration of a setting.

    Args:
        default: Its default.
        meaning: One or two sentences; the first is the help of the flag.
        flag: Flag of `run` or `prepare` that sets it, with its metavar, such as `--hours H`.
        bounds: `ge`, `gt`, `le`, `min_length` of pydantic.
    """
    if largest := LARGEST.get(type(default)):
        bounds = {"le": largest, **bounds}
    return Field(default, description=meaning, json_schema_extra={"flag": flag}, **bounds)


def _drawable(mix: dict[str, float]) -> dict[str, float]:
    if mix and not any(mix.values()):
        raise ValueError("No share is above 0")
    return mix


Mix = Annotated[
    dict[ConfiguredProposer, Annotated[float, Field(ge=0)]],
    AfterValidator(_drawable),
]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=False,
        protected_namespaces=(),
        allow_inf_nan=False,
        defer_build=True,  # until settings are read: not for `--help`
    )


class SessionConfig(_Section):
    """[session]: limits, seed, confirmation, notifications."""

    seed: int = setting(
        0,
        "Where random choices start: seeds of trials, audits drawn, who proposes next.",
        ge=0,
        le=2**63 - 1,
    )
    hours: float = setting(
        0.0,
        "Stop after this many hours; 0 is no limit. The first limit reached ends the session.",
        flag="--hours H",
        ge=0,
        le=1e6,
    )
    experiments: int = setting(
        0,
        "Stop after this many experiments, not counting the baseline; 0 is no limit.",
        flag="--experiments N",
        ge=0,
    )
    max_cost: float = setting(
        0.0,
        "Stop when proposals have cost this many US dollars, calls in flight included. 0 is no limit.",
        flag="--max-cost USD",
        ge=0,
    )
    confirm_trials: int = setting(
        4,
        "Fresh trials of the baseline, and as many of the best, on the test split at the end; 0 is no confirmation.",
        ge=0,
    )
    notify: list[str] = setting(
        [],
        "Command run at each keep, at a pause and at the end. What happened is its last argument; [] is none.",
        flag="--notify CMD",
    )
    push_after_keep: str = setting(
        "",
        'Remote that receives the session\'s refs after each keep, for machines that may vanish; "" is none.',
    )


class Guard(_Section):
    """Limits on a figure of a `program` task that is not its metric."""

    max: float | None = None
    min: float | None = None
    worse_by: Annotated[float, Field(ge=0)] | None = None
    """Largest growth against the baseline, as a share."""


class TaskConfig(_Section):
    """[task]: what a trial is, how it is scored, and what the agent may change."""

    kind: Literal["gpt", "program"] = setting(
        "gpt", '"gpt": train.py trains a language model; "program": an evaluator scores a program.'
    )
    editable: list[str] = setting(
        ["train.py"],
        "The files an agent may change, relative to the run directory. The first is the one that is run.",
        min_length=1,
    )
    max_lines: int = setting(630, "Longest editable file in lines; 0 is no limit.", ge=0)
    max_bytes: int = setting(
        128_000, "Longest editable file in bytes: no room for data or weights in the code.", gt=0
    )
    evaluator: str = setting(
        "evaluate.py",
        "Of a program: the file whose `evaluate(candidate, seed, split)` scores it. No candidate and no agent sees it.",
    )
    hidden: list[str] = setting(
        [], "Further files and folders of the run directory that only the evaluator may read."
    )
    paired: bool = setting(
        False,
        "Score the incumbent beside each candidate, on the same cases, and compare case by case.",
    )
    metric: str = setting(
        "score",
        'Of a program: name of its score. "from stdout": the last number that `pattern` finds in what `command` prints,'
        " which nothing checks.",
        min_length=1,
    )
    unit: str = setting("", "Unit of the score.")
    direction: Literal["", "minimize", "maximize"] = setting(
        "", 'Whether less or more of the score is better: "minimize" or "maximize".'
    )
    decimals: int = setting(
        4,
        "Decimals of the score on screens, at most; fewer where the noise allows no more.",
        ge=0,
        le=12,
    )
    guards: dict[str, Guard] = setting(
        {},
        "Limits on further figures, which veto a gain: {latency_ms = {max = 5}, memory_mb = {worse_by = 0.1}}; call_ms"
        " and memory_mb are measured by the lab.",
    )
    command: list[str] = setting(
        [],
        'With metric = "from stdout": the program and its arguments, started in a copy of the files.',
    )
    pattern: str = setting(
        r"score\s*[:=]\s*(\S+)",
        'With metric = "from stdout": a regular expression whose group is the number; the last match counts.',
    )


class DataConfig(_Section):
    """[data]: the text, the tokenizer, the splits."""

    source: str = setting(
        "hf://datasets/karpathy/climbmix-400b-shuffle",
        "hf://datasets/OWNER/NAME[@revision], a file, folder or glob (formats: docs/data.md), builtin:python or"
        " builtin:packages; builtin:python is the source of the standard library, builtin:packages that and all"
        " installed packages.",
        flag="--source SOURCE",
    )
    text_column: str = setting(
        "text", "Column or JSON key that holds the text.", flag="--text-column NAME"
    )
    shards: int = setting(
        10,
        "Training shards to take of a source that comes in shards.",
        flag="--shards N",
        gt=0,
    )
    max_bytes: int = setting(
        0,
        "Stop reading after this many bytes of text; 0 reads everything.",
        flag="--max-bytes B",
        ge=0,
    )
    vocab_size: int = setting(
        8192,
        "Tokens in the vocabulary, the special one included. At most 65,536, for two bytes per token.",
        flag="--vocab-size N",
        ge=257,
        le=65_536,
    )
    holdout_share: float = setting(
        0.02,
        "Share of documents held out for validation, and as many for test, where a source has no separate shards for"
        " it.",
        gt=0,
        le=0.4,
    )


class TrialConfig(_Section):
    """[trial]: budget, limits, device."""

    budget_seconds: float = setting(
        300.0, "Seconds of training in a trial, counted by the lab.", gt=0
    )
    startup_seconds: float = setting(
        240.0,
        "Seconds from the start of the process to `trial.start()`: imports, compilation, warm-up.",
        gt=0,
    )
    max_seq_len: int = setting(
        2048, "Longest context `build_model` must handle, in tokens; training may use less.", ge=16
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = setting(
        "auto", '"auto", "cuda", "mps" or "cpu".'
    )
    save_weights: Literal["none", "best", "kept"] = setting(
        "best", 'Which weights to keep under .autoresearch/weights: "none", "best" or "kept".'
    )


class JudgeConfig(_Section):
    """[judge]: how the score is measured and checked."""

    context: int = setting(
        2048, "Tokens of context when judging; at most trial.max_seq_len.", ge=16
    )
    eval_tokens: int = setting(
        20_971_520,
        "Validation tokens judged, and at most as many test tokens, others for each pair of a confirmation.",
        gt=0,
    )
    batch_rows: int = setting(32, "Rows judged at a time; halved once when memory runs out.", gt=0)
    audit_positions: int = setting(
        2048,
        "Fewest positions audited, drawn secretly for each trial; more once the noise is known.",
        gt=0,
    )
    suspicious_jump: float = setting(
        0.1,
        "A gain larger than this share of the score, and than 75 times the noise, is audited with more positions, once"
        " more on text that no claim saw, and held for you. 1: never.",
        ge=0,
        le=1,
    )
    timeout_seconds: float = setting(300.0, "Seconds the claim, and the audit, may take.", gt=0)


class DecisionConfig(_Section):
    """[decision]: the keep rule."""

    policy: Literal["greedy", "balanced", "strict"] = setting(
        "balanced",
        '"greedy" keeps whatever is lower, "balanced" what is probably better, "strict" tests the doubtful again.',
    )
    baseline_trials: int = setting(
        3, "Trials of the baseline, on different seeds: they measure the noise.", gt=0
    )


class ProposerConfig(_Section):
    """[proposer]: where the ideas come from."""

    kind: ConfiguredProposer = setting(
        "search",
        '"search" (no LLM), "llm" or "command"; the flag also takes claude, codex or PROVIDER/MODEL.'
        " It sets `mix` aside.",
        flag="--proposer NAME",
    )
    model: str = setting(
        "", 'Model to ask, by its name in litellm, "provider/name".', flag="--model NAME"
    )
    fallback_models: list[str] = setting(
        [],
        "Models that take over in turn while the one before is unavailable; those of the same provider share address"
        " and key.",
    )
    api_base: str = setting(
        "", 'Address of a local or compatible server; "" is the provider\'s own.'
    )
    api_key_env: str = setting(
        "",
        'Name of the environment variable that holds the key; "" is the provider\'s usual one.',
    )
    command: list[str] = setting(
        [],
        'Coding-agent command and arguments, or one of its presets by name: ["claude"], ["codex"].',
    )
    mix: Mix = setting(
        {}, "Shares of proposers instead of one kind, e.g. {search = 0.7, llm = 0.3}."
    )
    ahead: int = setting(
        -1,
        "Proposals prepared while a trial runs. -1 chooses: 1 on a GPU, 0 where it would disturb the measurement.",
        flag="--ahead N",
        ge=-1,
        le=8,
    )
    context_tokens: int = setting(
        0, "Tokens of the prompt at most; 0 is what the model's window allows.", ge=0
    )
    max_output_tokens: int = setting(16_384, "Tokens of an answer at most.", gt=0)
    timeout_seconds: float = setting(
        600.0, "Seconds one call, or one run of the command, may take.", gt=0
    )
    price_in: float = setting(
        -1.0,
        "US dollars per million tokens read; -1 is the price litellm knows, if any.",
        ge=-1,
    )
    price_out: float = setting(
        -1.0,
        "US dollars per million tokens written; -1 is the price litellm knows, if any.",
        ge=-1,
    )
    ports: list[Annotated[int, Field(ge=1, le=65_535)]] = setting(
        [443],
        "TCP ports a coding-agent command may connect to, with those of addresses in its environment and 53; [] is all:"
        " services of this machine and its cloud too.",
    )
    pass_env: list[str] = setting(
        [],
        "Environment variables passed to a coding-agent command, in addition to those its preset names.",
    )


class SandboxConfig(_Section):
    """[sandbox]: what a trial may touch."""

    backend: Literal["auto", "bubblewrap", "landlock", "seatbelt", "none"] = setting(
        "auto",
        '"auto", "bubblewrap", "landlock", "seatbelt" or "none" (needs --unsafe-no-sandbox).',
    )
    memory_mb: int = setting(
        0, "Memory of a trial in MB where the system can limit it; 0 is no limit.", ge=0
    )
    disk_mb: int = setting(4096, "Disk a trial may write in its private folders, in MB.", gt=0)


class Config(_Section):
    """All settings, validated."""

    session: SessionConfig = Field(default_factory=SessionConfig)
    task: TaskConfig = Field(default_factory=TaskConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    trial: TrialConfig = Field(default_factory=TrialConfig)
    judge: JudgeConfig = Field(default_factory=JudgeConfig)
    decision: DecisionConfig = Field(default_factory=DecisionConfig)
    proposer: ProposerConfig = Field(default_factory=ProposerConfig)
    sandbox: SandboxConfig = Field(default_factory=SandboxConfig)


FROM_STDOUT = "from stdout"
"""`[task] metric` of a program that reports its score itself."""
_OF_PROGRAMS: Mapping[str, Any] = {
    "task.editable": ["solution.py"],
    "task.max_lines": 0,
    "trial.device": "cpu",
    "trial.budget_seconds": 60.0,
    "trial.startup_seconds": 60.0,
    "trial.save_weights": "none",
    "judge.suspicious_jump": 1.0,
}
"""Defaults of `[task] kind = "program"`; the last one because its cases are fresh in each trial."""


@dataclass(frozen=True)
class Described:
    """One setting, for the pages that list them."""

    key: str
    """`section.name`."""
    default: Any
    meaning: str
    flag: str
    """Flag of `run` or `prepare` with its metavar; empty where there is none."""


def described() -> Iterator[Described]:
    """Yield every setting, in order."""
    for section, part in Config.model_fields.items():
        assert part.annotation is not None
        for name, field in part.annotation.model_fields.items():
            extra = field.json_schema_extra
            assert isinstance(extra, dict)
            key, meaning = f"{section}.{name}", field.description or ""
            yield Described(key, field.default, meaning, str(extra["flag"]))


@dataclass(frozen=True)
class Loaded:
    """A configuration and where each value that is not a default came from."""

    config: Config
    sources: Mapping[str, str]
    """Dotted key -> `autoresearch.toml`, `AUTORESEARCH_...` or `flags`."""

    def changed(self) -> dict[str, Any]:
        """Return the values that differ from the defaults, by dotted key."""
        defaults = _flatten(Config().model_dump())
        mine = _flatten(self.config.model_dump())
        return {key: value for key, value in mine.items() if value != defaults[key]}


def load_config(
    run_directory: RunDirectory | None, overrides: Mapping[str, Any] | None = None
) -> Loaded:
    """Read and validate the configuration of a run directory.

    Args:
        run_directory: None reads the defaults and the environment only.
        overrides: Dotted key -> value from flags; None values are ignored.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, a value has the wrong type or range.
    """
    values = Config().model_dump()
    known = set(_flatten(values))
    sources: dict[str, str] = {}

    def put(key: str, value: Any, source: str) -> None:
        section, name = key.split(".", 1)
        if key not in known:
            raise _unknown(key, source, f"`{key}`", _nearest(key, known, f"{section}."))
        values[section][name] = value
        sources[key] = source

    if run_directory is not None and run_directory.config.is_file():
        for section, table in _read(run_directory.config).items():
            if not isinstance(table, dict):
                raise ConfigError(
                    f"`{CONFIG_NAME}`: `{section}` must be a table",
                    hint=f"write `[{_nearest_word(section, values) or 'section'}]` above the setting",
                )
            if section not in values and section not in REMOVED:
                raise ConfigError(
                    f"`{CONFIG_NAME}`: unknown section `[{section}]`",
                    hint=_nearest(section, values),
                )
            for name, value in table.items():
                put(f"{section}.{name}", value, CONFIG_NAME)
    if values["task"]["kind"] == "program":
        for key in sorted(_OF_PROGRAMS.keys() - sources.keys()):
            section, name = key.split(".")
            values[section][name] = _OF_PROGRAMS[key]
    variables = {"AUTORESEARCH_" + key.replace(".", "_").upper(): key for key in sorted(known)}
    of_sections = tuple(f"AUTORESEARCH_{section.upper()}_" for section in values)
    for variable in sorted(v for v in os.environ if v.startswith(of_sections)):
        if variable not in variables:
            family = next(s for s in of_sections if variable.startswith(s))
            key = variable.removeprefix("AUTORESEARCH_").lower().replace("_", ".", 1)
            hint = _nearest(variable, variables, family)
            raise _unknown(key, variable, "in the environment", hint)
    for variable, key in variables.items():
        if (text := os.environ.get(variable)) is not None:
            put(key, _from_text(text, values, key), variable)
    for key, value in (overrides or {}).items():
        if value is not None:
            put(key, value, FLAG)
    try:
        config = Config.model_validate(values)
    except ValidationError as exc:
        raise _explain(exc, sources) from exc
    if config.judge.context > config.trial.max_seq_len:
        raise ConfigError(
            f"`judge.context` must be at most `trial.max_seq_len` ({config.trial.max_seq_len}),"
            f" got {config.judge.context}",
            hint="raise `trial.max_seq_len` or lower `judge.context`",
        )
    if config.task.kind == "program":
        _check_program(config.task)
    _hide_secrets(config)
    return Loaded(config, sources)


def _check_program(task: TaskConfig) -> None:
    """See that the settings of a `program` task fit together.

    Raises:
        ConfigError: they do not.
    """
    if not task.direction:
        raise ConfigError(
            f"`task.direction` is missing: whether less or more of `{task.metric}` is better",
            hint='write `direction = "maximize"` or `direction = "minimize"` under `[task]`',
        )
    secret = [*task.hidden, *[task.evaluator] * (task.metric != FROM_STDOUT)]
    for path in secret:
        if path.startswith(("/", "~")) or not is_safe(path):
            raise ConfigError(
                f"`{path}` of `task.evaluator` or `task.hidden` is not below the run directory",
                hint="put it there, and name it by its path from there",
            )
        if path in task.editable:
            raise ConfigError(
                f"`{path}` is both in `task.editable` and hidden",
                hint="what scores a program cannot be what is changed: take it out of one of the two",
            )
    if (task.metric == FROM_STDOUT) != bool(task.command):
        raise ConfigError(
            f'`task.command` goes with `metric = "{FROM_STDOUT}"` and with nothing else',
            hint='for example `command = ["python", "solution.py"]`, or leave it out and name an `evaluator`',
        )
    try:
        num_groups = re.compile(task.pattern).groups
    except re.error as exc:
        raise ConfigError(
            f"`task.pattern` is no regular expression: {exc}", hint=r'for example "score: (\S+)"'
        ) from exc
    if num_groups != 1:
        raise ConfigError(
            f"`task.pattern` has {num_groups} groups, and the one group is the number",
            hint=r'for example "score: (\S+)"',
        )


def _hide_secrets(config: Config) -> None:
    """Keep what the settings name out of the record, reports and error messages: keys, addresses to notify."""
    for name in (config.proposer.api_key_env, *config.proposer.pass_env):
        hide(os.environ.get(name, ""), name)
    for address in re.findall(r"\w+://[^\s'\"]+", " ".join(config.session.notify)):
        hide(address, "session.notify")


def _unknown(key: str, source: str, what: str, hint: str) -> ConfigError:
    section, _, name = key.partition(".")
    if name in REMOVED.get(section, "").split():
        where = "delete the line" if source == CONFIG_NAME else "unset the variable"
        return ConfigError(f"`{source}`: `{key}` is no longer a setting", hint=where)
    return ConfigError(f"`{source}`: unknown setting {what}", hint=hint)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"`{path}` is not UTF-8: byte {exc.start} is 0x{exc.object[exc.start]:02x}",
            hint="save it as UTF-8 in your editor",
        ) from exc
    except (OSError, tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConfigError(
            f"cannot read `{path}`: {exc}",
            hint="it takes `[section]` lines and `name = value` lines, text in quotes",
        ) from exc


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, table in values.items()
        for name, value in table.items()
    }


def _nearest_word(word: str, words: Any) -> str | None:
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return found[0] if found else None


def _nearest(word: str, words: Iterable[str], family: str = "") -> str:
    """Return a hint: the known word most like it, else the known ones that begin with `family`.

    The same name in another section is the most alike, then one of the family, then any.
    """
    relatives = {w.removeprefix(family): w for w in sorted(words) if w.startswith(family)}
    by_name = {w.rpartition(".")[2]: w for w in sorted(words)}
    name = word.removeprefix(family)
    if (near := _nearest_word(name, relatives)) and name not in by_name:
        return f"did you mean `{relatives[near]}`?"
    if near := _nearest_word(name, by_name):
        return f"did you mean `{by_name[near]}`?"
    return "known ones: " + ", ".join(f"`{w}`" for w in relatives.values())


def _from_text(text: str, values: Mapping[str, Any], key: str) -> Any:
    section, name = key.split(".", 1)
    current = values[section][name]
    if isinstance(current, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _explain(exc: ValidationError, sources: Mapping[str, str]) -> ConfigError:
    first = exc.errors()[0]
    key = ".".join(str(part) for part in first["loc"][:2])
    source = sources.get(key, CONFIG_NAME)
    message = str(first["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if source == FLAG:
        return ConfigError(
            f"the flag for `{key}`: {message}, got {first['input']!r}",
            hint=f"`{key}`: {meaning_of(key)}",
        )
    return ConfigError(
        f"`{source}`: `{key}`: {message}, got {first['input']!r}",
        hint=f"correct it in `{source}`; `{key}`: {meaning_of(key)}",
    )


def meaning_of(key: str) -> str:
    """Return what a setting means, by dotted key; empty for an unknown one."""
    return next((d.meaning for d in described() if d.key == key), "")
