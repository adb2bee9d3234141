"""The configuration: autoresearch.toml at the top level is its reference and the source of every default.

Precedence: flags > AUTORESEARCH_<SECTION>_<KEY> > the run directory's autoresearch.toml > the reference.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from autoresearch.errors import ConfigError
from autoresearch.paths import CONFIG_NAME, RunDirectory, reference_config
from autoresearch.types import ConfiguredProposer

FLAG = "flags"
"""What `Loaded.sources` says of a value given on the command line."""

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]


def _drawable(mix: dict[str, float]) -> dict[str, float]:
    if mix and not any(mix.values()):
        raise PydanticCustomError("mix", "No share is above 0")
    return mix


Mix = Annotated[dict[ConfiguredProposer, NonNegative], AfterValidator(_drawable)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=())


class SessionConfig(_Section):
    """[session]: limits, seed, confirmation, what is told to whom."""

    seed: Count
    hours: NonNegative
    experiments: Count
    max_cost: NonNegative
    confirm_share: Share
    confirm_trials: Count
    notify: list[str]
    push_after_keep: str


class TaskConfig(_Section):
    """[task]: what the agent may change."""

    editable: Annotated[list[str], Field(min_length=1)]
    max_lines: PositiveInt


class DataConfig(_Section):
    """[data]: the text, the tokenizer, the splits."""

    source: str
    text_column: str
    shards: PositiveInt
    max_bytes: Count
    vocab_size: Annotated[int, Field(ge=257, le=65_536)]
    tokenizer_bytes: PositiveInt
    holdout_share: Annotated[float, Field(gt=0, le=0.4)]
    memory_mb: Count
    workers: Count


class TrialConfig(_Section):
    """[trial]: budget, caps, device."""

    budget_seconds: Positive
    startup_seconds: Positive
    max_seq_len: Annotated[int, Field(ge=16)]
    device: Literal["auto", "cuda", "mps", "cpu"]
    hung_seconds: Positive
    max_log_bytes: PositiveInt
    max_weights_mb: PositiveInt
    save_weights: Literal["none", "best", "kept"]


class JudgeConfig(_Section):
    """[judge]: how val_bpb is measured and checked."""

    context: Annotated[int, Field(ge=16)]
    eval_tokens: PositiveInt
    batch_rows: PositiveInt
    audit_positions: PositiveInt
    audit_share: Share
    tolerance: Positive
    suspicious_jump: Share
    timeout_seconds: Positive


class DecisionConfig(_Section):
    """[decision]: the keep rule."""

    policy: Literal["greedy", "balanced", "strict"]
    baseline_trials: PositiveInt
    complexity_price: NonNegative
    prefer_simpler: bool
    max_memory_mb: Count
    memory_slack: NonNegative
    memory_price: NonNegative
    sentinel_every: Count
    learn_across_sessions: bool


class ProposerConfig(_Section):
    """[proposer]: who has the ideas."""

    kind: ConfiguredProposer
    model: str
    fallback_models: list[str]
    api_base: str
    api_key_env: str
    command: list[str]
    mix: Mix
    ahead: Annotated[int, Field(ge=-1, le=8)]
    max_rounds: PositiveInt
    context_tokens: Count
    max_output_tokens: PositiveInt
    timeout_seconds: Positive
    outage_minutes: NonNegative
    temperature: Annotated[float, Field(ge=-1, le=2)]
    price_in: Annotated[float, Field(ge=-1)]
    price_out: Annotated[float, Field(ge=-1)]
    pass_env: list[str]


class SandboxConfig(_Section):
    """[sandbox]: what a trial may touch."""

    backend: Literal["auto", "bubblewrap", "landlock", "seatbelt", "none"]
    max_processes: PositiveInt
    memory_mb: Count
    disk_mb: PositiveInt


class StorageConfig(_Section):
    """[storage]: what is kept on disk beside git."""

    max_logs_mb: PositiveInt
    max_weights_mb: PositiveInt


class Config(_Section):
    """All settings, validated."""

    session: SessionConfig
    task: TaskConfig
    data: DataConfig
    trial: TrialConfig
    judge: JudgeConfig
    decision: DecisionConfig
    proposer: ProposerConfig
    sandbox: SandboxConfig
    storage: StorageConfig


@dataclass(frozen=True)
class Loaded:
    """A configuration and where each value that is not a default came from."""

    config: Config
    sources: Mapping[str, str]
    """Dotted key -> `autoresearch.toml`, `AUTORESEARCH_...` or `flags`."""

    def changed(self) -> dict[str, Any]:
        """Return the values that differ from the reference, by dotted key."""
        reference = _flatten(_read(reference_config()))
        mine = _flatten(self.config.model_dump())
        return {key: value for key, value in mine.items() if value != reference[key]}


def load_config(
    run_directory: RunDirectory | None, overrides: Mapping[str, Any] | None = None
) -> Loaded:
    """Read and validate the configuration of a run directory.

    Args:
        run_directory: None reads the reference and the environment only.
        overrides: Dotted key -> value from flags; None values are ignored.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, a value has the wrong type or range.
    """
    values = _read(reference_config())
    known = set(_flatten(values))
    sources: dict[str, str] = {}

    def put(key: str, value: Any, source: str) -> None:
        section, name = key.split(".", 1)
        if key not in known:
            raise ConfigError(
                f"`{source}`: unknown setting `{key}`", hint=_nearest(key, known, f"{section}.")
            )
        values[section][name] = value
        sources[key] = source

    if run_directory is not None and run_directory.config.is_file():
        for section, table in _read(run_directory.config).items():
            if not isinstance(table, dict):
                raise ConfigError(
                    f"`{CONFIG_NAME}`: `{section}` must be a table",
                    hint=f"write `[{_nearest_word(section, values) or 'section'}]` above the setting",
                )
            if section not in values:
                raise ConfigError(
                    f"`{CONFIG_NAME}`: unknown section `[{section}]`",
                    hint=_nearest(section, values),
                )
            for name, value in table.items():
                put(f"{section}.{name}", value, CONFIG_NAME)
    variables = {"AUTORESEARCH_" + key.replace(".", "_").upper(): key for key in sorted(known)}
    of_sections = tuple(f"AUTORESEARCH_{section.upper()}_" for section in values)
    for variable in sorted(v for v in os.environ if v.startswith(of_sections)):
        if variable not in variables:
            raise ConfigError(
                f"`{variable}`: unknown setting in the environment",
                hint=_nearest(
                    variable, variables, next(s for s in of_sections if variable.startswith(s))
                ),
            )
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
    return Loaded(config, sources)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
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
    message = str(first["msg"])
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


@dataclass(frozen=True)
class Described:
    """One setting of the reference."""

    section: str
    name: str
    default: str
    """As it is written there, `200_000_000`."""
    meaning: str
    """The comment above it; settings that follow one another without a comment share one."""


def described() -> Iterator[Described]:
    """Yield every setting, in the order of the reference."""
    section, comment, is_ended = "", "", True
    for raw in reference_config().read_text(encoding="utf-8").split("\n"):
        line = raw.strip()
        if line.startswith("#"):
            text = line.lstrip("# ")
            comment, is_ended = text if is_ended else f"{comment} {text}", False
        else:
            is_ended = True
        if line.startswith("["):
            section, comment = line.strip("[]"), ""
        elif "=" in line and not line.startswith("#"):
            name, default = (part.strip() for part in line.split("=", 1))
            yield Described(section, name, default, comment)


def meaning_of(key: str) -> str:
    """Return what a setting means, by dotted key; empty for an unknown one."""
    return next((d.meaning for d in described() if f"{d.section}.{d.name}" == key), "")
