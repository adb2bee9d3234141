"""A session as an Arrow table, one row per experiment, for notebooks."""

from typing import TYPE_CHECKING

from autoresearch.events import parse_time

if TYPE_CHECKING:
    import pyarrow as pa

    from autoresearch.types import Session


def to_arrow(session: "Session") -> "pa.Table":
    """Return a table with one row per experiment; what is missing is null.

    Columns: number, commit, parent, state, verdict, reason, score, delta, p_real, estimate, low, high,
    num_trials, trials (a list of structs), proposer, theme, description, hypothesis, lines_added, lines_removed,
    peak_memory_mb, tokens_per_second, total_seconds, cost_usd, tokens_in, tokens_out, setup, started_at, judged_at,
    is_reverted. Times are UTC. Text is as the record holds it, which stores no control characters.
    """
    import pyarrow as pa

    trial = pa.struct(
        [
            ("seed", pa.int64()),
            ("outcome", pa.string()),
            ("split", pa.string()),
            ("score", pa.float64()),
            ("score_se", pa.float64()),
            ("num_tokens", pa.int64()),
            ("train_seconds", pa.float64()),
            ("total_seconds", pa.float64()),
            ("peak_memory_mb", pa.float64()),
            ("tokens_per_second", pa.float64()),
        ]
    )
    moment = pa.timestamp("s", tz="UTC")
    words, reals, whole = pa.string(), pa.float64(), pa.int64()
    schema = pa.schema(
        [
            ("number", whole),
            *[(n, words) for n in ("commit", "parent", "state", "verdict", "reason")],
            *[(n, reals) for n in ("score", "delta", "p_real", "estimate", "low", "high")],
            ("num_trials", whole),
            ("trials", pa.list_(trial)),
            *[(n, words) for n in ("proposer", "theme", "description", "hypothesis")],
            ("lines_added", whole),
            ("lines_removed", whole),
            *[(n, reals) for n in ("peak_memory_mb", "tokens_per_second", "total_seconds")],
            ("cost_usd", reals),
            ("tokens_in", whole),
            ("tokens_out", whole),
            ("setup", words),
            ("started_at", moment),
            ("judged_at", moment),
            ("is_reverted", pa.bool_()),
        ]
    )
    rows = []
    for e in session.experiments:
        row = {name: getattr(e, name, None) for name in schema.names}
        row |= {
            name: getattr(e.decision, name, None) for name in ("delta", "estimate", "low", "high")
        }
        row |= {name: getattr(e.usage, name) for name in ("cost_usd", "tokens_in", "tokens_out")}
        row |= {
            "num_trials": len(e.trials),
            "trials": [
                {field.name: getattr(t.result, field.name) for field in trial} for t in e.trials
            ],
            "started_at": parse_time(e.started_at),
            "judged_at": parse_time(e.judged_at),
            "is_reverted": bool(e.reverted_by),
        }
        rows.append({name: None if value == "" else value for name, value in row.items()})
    return pa.Table.from_pylist(rows, schema=schema)
