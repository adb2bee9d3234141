"""What a script of upstream's shape is refused, found in its text before it has trained for nothing."""

import ast
from pathlib import Path

OTHER_SPLIT = (
    "a trial sees training tokens only: take this loader out; `evaluate_bpb(model, ...)` estimates, and the judge"
    " computes val_bpb once the script has ended"
)
BYTES = "a trial does not count bytes, the judge computes val_bpb: call `evaluate_bpb(model, ...)` instead"
TEXT = (
    "a trial has no text to encode or decode, batches come as tokens from the lab: take this out; what"
    " `autoresearch export best` writes prints text of the model"
)


def foresee(script: Path) -> None:
    """Refuse calls that a trial will refuse, wherever in the script they are.

    Raises:
        RuntimeError: there is one, as if its line had been run.
    """
    tree = ast.parse(script.read_bytes())
    names: dict[str, str] = {}
    tokenizers: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "prepare":
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Tokenizer"):
            tokenizers |= {ast.unparse(target) for target in node.targets}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (why := _refused(node, names, tokenizers)):
            line = compile("\n" * (node.lineno - 1) + "raise error", str(script), "exec")
            exec(line, {"error": RuntimeError(why)})  # noqa: S102 - so that the error is one of that line


def _refused(call: ast.Call, names: dict[str, str], tokenizers: set[str]) -> str:
    """Return why a call is refused, "" if it is not."""
    owner, _, name = ast.unparse(call.func).rpartition(".")
    if owner in tokenizers:
        return TEXT if name in ("encode", "decode") else ""
    name = name if owner == "prepare" else names.get(name, "") if not owner else ""
    if name == "make_dataloader":
        given = [*call.args[3:4], *(k.value for k in call.keywords if k.arg == "split")]
        is_other = any(isinstance(v, ast.Constant) and v.value != "train" for v in given)
        return OTHER_SPLIT if is_other else ""
    return BYTES if name == "get_token_bytes" else ""
