"""A session as an Arrow table, one row an experiment, for notebooks."""

from typing import TYPE_CHECKING

from autoresearch.events import parse_time

if TYPE_CHECKING:
    import pyarrow as pa

    from autoresearch.types import Session


def to_arrow(session: "Session") -> "pa.Table":
    """Return a table with one row an experiment; what is missing is null.

    Columns: number, commit, parent, state, verdict, reason, val_bpb, delta, p_real, estimate, low, high,
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
            ("bpb", pa.float64()),
            ("audit_se", pa.float64()),
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
            *[(n, reals) for n in ("val_bpb", "delta", "p_real", "estimate", "low", "high")],
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
        d = e.decision
        rows.append(
            {
                "number": e.number,
                "commit": e.commit or None,
                "parent": e.parent or None,
                "state": e.state.value,
                "verdict": e.verdict.value if e.verdict else None,
                "reason": e.reason or None,
                "val_bpb": e.val_bpb,
                "delta": d.delta if d else None,
                "p_real": e.p_real,
                "estimate": d.estimate if d else None,
                "low": d.low if d else None,
                "high": d.high if d else None,
                "num_trials": len(e.trials),
                "trials": [
                    {
                        field.name: t.result.outcome.value
                        if field.name == "outcome"
                        else getattr(t.result, field.name)
                        for field in trial
                    }
                    for t in e.trials
                ],
                "proposer": e.proposer or None,
                "theme": e.theme or None,
                "description": e.description,
                "hypothesis": e.hypothesis or None,
                "lines_added": e.lines_added,
                "lines_removed": e.lines_removed,
                "peak_memory_mb": e.peak_memory_mb,
                "tokens_per_second": e.tokens_per_second,
                "total_seconds": e.total_seconds,
                "cost_usd": e.usage.cost_usd,
                "tokens_in": e.usage.tokens_in,
                "tokens_out": e.usage.tokens_out,
                "setup": e.setup or None,
                "started_at": parse_time(e.started_at),
                "judged_at": parse_time(e.judged_at),
                "is_reverted": bool(e.reverted_by),
            }
        )
    return pa.Table.from_pylist(rows, schema=schema)
