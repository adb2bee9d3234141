"""A night with a model that gives every kind of trouble: `python bench/night.py [--preset demo] [--seconds 3]`.

`autoresearch run` as a person types it, on a run directory of a CPU preset, with real training, judging and litellm;
the model is a scripted OpenAI-compatible server on loopback that thinks as long as a trial takes. Printed are
    1. the experiments, as `autoresearch log` shows them, and who proposed how many;
    2. each injected trouble: the calls its experiment took, who proposed it in the end, what became of it;
    3. calls, tokens and money by the record beside those the server counted, with what died on the way at its most;
    4. the busy share of that night, and of two more stretches without trouble: one proposal ahead, and in turn; the
       model takes as long as the trials just before;
    5. the exact prompt of experiment 30 (`--prompt N` another) and its tokens by part.
Ends with 1 if record and server disagree, an experiment is missing, or `search` never took over or never handed back.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "proposer"))

from openai_server import Say, Server, serve, tokens_of

from autoresearch import read_session
from autoresearch.config import load_config
from autoresearch.paths import RunDirectory
from autoresearch.proposer.llm.provider import Provider
from autoresearch.record.record import Record
from autoresearch.types import Session
from autoresearch.ui.pages import log
from autoresearch.ui.pages.rows import Filter, verdict_text
from autoresearch.ui.summary import seconds_by_kind

PRICE_IN, PRICE_OUT = 1.0, 4.0
MAX_OUTPUT = 2000
OUTAGE_SECONDS = 24.0
START = f"""
import sys
from autoresearch.cli import main
from autoresearch.proposer import registry
registry.OUTAGE_SECONDS = {OUTAGE_SECONDS}
sys.exit(main())
"""
"""`autoresearch`, with less patience: a night of minutes has outages of seconds."""

TROUBLE = {
    2: "rate limit",
    3: "server error",
    4: "timeout",
    5: "cut off",
    6: "garbage",
    7: "no match",
    8: "duplicate",
    9: "no-op",
    10: "out of scope",
    11: "too long",
    12: "refused",
    13: "broken off",
    14: "never useful",
    16: "outage",
    17: "outage",
    18: "outage",
    19: "outage",
    26: "crash",
    27: "leak",
}
"""Experiment -> what happens when the model is asked for it; once, but for outages and the one that is never useful."""
LEAST = max(TROUBLE) + 1

NUMBERS = (
    ("EMBED_LR", "1.6", "embeddings can take larger steps"),
    ("ROWS", "4", "twice the steps in the same time"),
    ("COOLDOWN", "0.5", "short runs want more time at the peak rate"),
    ("FINAL_LR", "0.0", "end at zero"),
    ("MATRIX_LR", "0.08", "few steps, larger ones"),
    ("WIDTH", "96", "more channels for each token"),
    ("HEAD_LR", "0.008", "the output matrix learns slowly"),
    ("BETA2", "0.99", "a longer memory of squared gradients"),
    ("MLP_RATIO", "2", "less arithmetic in a step"),
    ("MOMENTUM", "0.9", "a shorter average suits few steps"),
    ("INIT_SCALE", "1.0", "larger matrices at the start"),
    ("TIED_HEAD", "True", "fewer parameters to learn"),
    ("ROPE_BASE", "10_000.0", "rows are short"),
    ("VALUE_EMBED_EVERY", "1", "a value embedding in every block"),
    ("MATRIX_DECAY", "0.0", "nothing to regularise in one pass"),
    ("NUM_HEADS", "1", "one head is faster"),
    ("LOGIT_CAP", "15.0", "bound the logits"),
    ("SCALAR_LR", "1.0", "the shortcuts can move faster"),
    ("BETA1", "0.9", "smoother steps"),
    ("HEAD_SIZE", "64", "wider heads"),
    ("ROWS", "16", "less noise in a step"),
    ("EMBED_LR", "0.4", "embeddings overshoot"),
    ("CONTEXT", "64", "shorter rows, cheaper attention"),
    ("ACCUMULATE", "2", "a larger batch"),
    ("EMBED_DECAY", "0.0", "nothing to regularise"),
    ("MATRIX_LR", "0.02", "smaller steps"),
    ("WIDTH", "128", "wider still"),
    ("COOLDOWN", "0.9", "cool for longer"),
    ("DEPTH", "3", "one more block"),
    ("HEAD_LR", "0.002", "smaller steps of the output"),
    ("MLP_RATIO", "6", "a wider MLP"),
    ("MOMENTUM", "0.97", "a longer average"),
    ("INIT_SCALE", "0.4", "smaller matrices at the start"),
    ("BETA2", "0.9", "a shorter memory"),
    ("SCALAR_LR", "0.25", "slower shortcuts"),
    ("FINAL_LR", "0.1", "keep some rate at the end"),
)
"""Constant, new value, reason: ideas as a model has them."""
RATES = (("EMBED_LR", 0.8), ("MATRIX_LR", 0.04), ("HEAD_LR", 0.004), ("SCALAR_LR", 0.5))
"""Constant, value: tried in steps of 2 % when the other ideas are used up, so that a stretch may be any length."""

EMBEDDED = "        x = x0 = norm(look_up(self.embed, idx, dtype))"
SMEARED = """\
        e = look_up(self.embed, idx, dtype)
        x = x0 = norm(e + 0.3 * F.pad(e, (0, 0, 1, 0))[:, :-1])"""
MLP = "        return x + self.down(F.relu(self.up(norm(x))).square())"
FEATURES = "        return norm(x)"
CHANGES = (
    (
        "mix a share of the previous token into each embedding",
        EMBEDDED,
        SMEARED,
    ),
    (
        "GELU in place of the squared ReLU",
        MLP,
        "        return x + self.down(F.gelu(self.up(norm(x))))",
    ),
)
"""Description, lines to find, lines to put: ideas that change the structure."""
CRASH = (
    "a bottleneck in the MLP",
    MLP,
    MLP.replace("self.up(norm(x))", "self.up(norm(x)[..., :8])"),
)
LEAK = (
    "normalise by the mean of the row",
    FEATURES,
    "        return norm(x - x.mean(dim=1, keepdim=True))",
)


def answer(description: str, old: str, new: str, *, why: str = "", path: str = "train.py") -> str:
    """Return an answer in the format of the prompt."""
    return (
        f"HYPOTHESIS: {why or description}\nEXPECTED EFFECT: -0.01 if it holds\nDESCRIPTION: {description}\n"
        f"THEME: {'structure' if not why else description.partition(' ')[0].lower()}\nNOTE: tried {description}\n"
        f"FILE: {path}\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n"
    )


class Model:
    """Has an idea for each experiment, and gives the trouble of `TROUBLE` while `is_troubled`."""

    def __init__(self) -> None:
        self.think_seconds = 0.0
        self.limit_seconds = 0.0
        self.is_troubled = True
        self.asked: Counter[int] = Counter()
        self.answered: list[tuple[int, int]] = []
        """(tokens in, tokens out) of each call that was answered and is billed."""
        self.died: list[dict[str, Any]] = []
        """Requests that a provider bills although nobody heard the answer."""
        self.server: Server | None = None
        self._ideas: dict[int, str] = {}
        self._unused = [*CHANGES, *NUMBERS]
        self._num_rounds = 0
        self._lock = threading.Lock()

    def __call__(self, index: int, body: dict[str, Any]) -> Say:
        """Answer one request."""
        assert self.server is not None
        prompt = self.server.prompt(index)
        with self._lock:
            self.server.num_prompt_tokens = tokens_of(prompt)
            found = re.search(r"Propose experiment #(\d+)", prompt)
            if found is None:  # First contact.
                return self._billed(Say("OK"), prompt)
            number = int(found.group(1))
            self.asked[number] += 1
            kind = TROUBLE.get(number, "") if self.is_troubled else ""
            say = self._trouble(kind, number, self.asked[number], prompt) or Say(
                self._idea(number, prompt), seconds_before=self.think_seconds
            )
            if say.is_broken_off or say.raw is not None or say.seconds_before > self.limit_seconds:
                self.died.append(body)
                return say
            return self._billed(say, prompt) if say.status == 200 else say

    def _billed(self, say: Say, prompt: str) -> Say:
        self.answered.append((tokens_of(prompt), tokens_of(say.text)))
        return say

    def _trouble(self, kind: str, number: int, attempt: int, prompt: str) -> Say | None:
        if kind == "outage":
            return Say(status=503, error="overloaded")
        if kind == "never useful":
            return Say("I would try a larger model.", seconds_before=self.think_seconds / 4)
        if kind == "crash":
            return Say(answer(*CRASH), seconds_before=self.think_seconds)
        if kind == "leak":
            return Say(answer(*LEAK), seconds_before=self.think_seconds)
        if attempt > (2 if kind == "too long" else 1):
            return None
        good = self._idea(number, prompt)
        think = {"seconds_before": self.think_seconds}
        match kind:
            case "rate limit":
                return Say(status=429, error="slow down", headers=(("retry-after", "7"),))
            case "server error":
                return Say(status=500)
            case "timeout":
                return Say(good, seconds_before=self.limit_seconds + 5)
            case "cut off":
                return Say(good[: len(good) * 2 // 3], finish="length", **think)
            case "garbage":
                return Say(raw=b"<html>502 from some proxy</html>")
            case "no match":
                return Say(good.replace("SEARCH\n", "SEARCH\n "), **think)
            case "duplicate":
                return Say(self._ideas.get(number - 1, good), **think)
            case "no-op":
                return Say(
                    answer("say it better", FEATURES, f"{FEATURES}  # the last one"), **think
                )
            case "out of scope":
                return Say(answer("another metric", "a", "b", path="autoresearch.toml"), **think)
            case "too long":
                error = "This model's maximum context length is 4096 tokens. You sent more."
                return Say(status=400, error=error, code="context_length_exceeded")
            case "refused":
                error = "rejected by the content management policy"
                return Say(status=400, error=error, code="content_policy_violation")
            case "broken off":
                return Say(good, is_broken_off=True, **think)
        return None

    def _idea(self, number: int, prompt: str) -> str:
        """The idea for an experiment: the first unused one that the program of the prompt has room for."""
        if number in self._ideas:
            return self._ideas[number]
        ideas = [text for idea in self._unused if (text := self._fitting(idea, prompt))]
        while not ideas:
            self._num_rounds += 1
            step = 1 + 0.02 * self._num_rounds
            finer = [(name, f"{rate * step:.4g}", "a finer step") for name, rate in RATES]
            ideas = [text for idea in finer if (text := self._fitting(idea, prompt))]
            self._unused += finer
        self._ideas[number] = ideas[0]
        self._unused = [i for i in self._unused if self._fitting(i, prompt) != ideas[0]]
        return ideas[0]

    def _fitting(self, idea: tuple[str, str, str], prompt: str) -> str:
        """Return the answer with an idea, or nothing when the program of the prompt has no room for it."""
        if idea in CHANGES:
            return answer(*idea) if f"\n{idea[1]}\n" in prompt else ""
        name, value, why = idea
        line = re.search(rf"^{name} = ([^#\n]*?)(  #.*)?$", prompt, re.MULTILINE)
        if line is None or line.group(1) == value:
            return ""
        new = f"{name} = {value}{line.group(2) or ''}"
        return answer(f"{name} to {value}", line.group(), new, why=why)


class Lab:
    """A run directory and the `autoresearch` that is typed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.busy: dict[str, dict[str, float]] = {}
        """Name of a stretch -> seconds by what the device did, and `wall`."""

    def __call__(self, *arguments: str) -> str:
        """Run one command and return what it printed; its own talk goes to our standard error."""
        line = [sys.executable, "-c", START, *arguments]
        print("$ autoresearch", *arguments, file=sys.stderr, flush=True)
        done = subprocess.run(line, cwd=self.folder, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(done.stdout)
            raise SystemExit(f"autoresearch {' '.join(arguments)} ended with {done.returncode}")
        return done.stdout

    def run(self, name: str, num: int, *arguments: str) -> Session:
        """Run `num` experiments and note the busy share of that stretch."""
        before = read_session(self.folder) if self.busy else Session("", "")
        self("run", "--experiments", str(num), "--no-confirm", *arguments)
        after = read_session(self.folder)
        spent, earlier = seconds_by_kind(after), seconds_by_kind(before)
        seconds = {kind: value - earlier.get(kind, 0.0) for kind, value in spent.items()}
        self.busy[name] = {**seconds, "wall": after.wall_seconds - before.wall_seconds}
        return after

    def configure(self, **settings: object) -> None:
        """Write settings of `[proposer]`."""
        file = self.folder / "autoresearch.toml"
        text = file.read_text(encoding="utf-8").split("[proposer]")[0]
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        file.write_text("\n".join([f"{text}[proposer]", *lines, ""]), encoding="utf-8")


def main() -> int:
    """Run the night and print what the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--experiments",
        type=int,
        default=36,
        help=f"of the night; at least {LEAST}, or 0 for the busy shares alone",
    )
    parser.add_argument("--preset", choices=("demo", "cpu"), default="demo")
    parser.add_argument("--seconds", type=float, default=3.0, help="training seconds of a trial")
    parser.add_argument("--stretch", type=int, default=8, help="experiments for each busy share")
    parser.add_argument("--prompt", type=int, default=30, help="experiment whose prompt is printed")
    given = parser.parse_args()
    if given.experiments and given.experiments < LEAST:
        parser.error(f"--experiments {given.experiments}: the last trouble comes at #{LEAST - 1}")
    for name in ("OPENAI_API_KEY", "AUTORESEARCH_TAG"):
        os.environ.pop(name, None)
    model = Model()
    with tempfile.TemporaryDirectory() as folder, serve(model) as server:
        model.server = server
        lab = Lab(Path(folder) / "night")
        lab.folder.mkdir()
        return night(lab, model, server, given)


def night(lab: Lab, model: Model, server: Server, given: argparse.Namespace) -> int:
    """Run all stretches and print them; 1 if something does not add up."""
    lab("init", ".", "--preset", given.preset, "--tag", "night")
    file = lab.folder / "autoresearch.toml"
    text = file.read_text(encoding="utf-8")
    budget = f"budget_seconds = {given.seconds}"
    file.write_text(re.sub(r"^budget_seconds = .*", budget, text, flags=re.MULTILINE))
    lab("prepare")
    # The first idea is of `search`: what a trial takes is known then, and the model's patience set by it.
    session = lab.run("first", 1)
    model.think_seconds = usual_seconds(session)
    model.limit_seconds = 2 * model.think_seconds + 5
    settings = {
        "kind": "llm",
        "model": "openai/scripted",
        "api_base": server.url,
        "price_in": PRICE_IN,
        "price_out": PRICE_OUT,
        "max_output_tokens": MAX_OUTPUT,
        "timeout_seconds": model.limit_seconds,
        "ahead": 1,
    }
    problems = []
    if given.experiments:
        lab.configure(**settings)
        session = lab.run("night", given.experiments)
        problems += show_experiments(session, given.experiments)
        problems += show_trouble(session, model)
        problems += show_cost(session, model, server, lab)
    model.is_troubled = False
    model.think_seconds = usual_seconds(session)
    for name, ahead in (("one ahead", 1), ("in turn", 0)):
        lab.configure(**{**settings, "ahead": ahead})
        session = lab.run(name, given.stretch)
    show_busy(lab, model.think_seconds, usual_seconds(session, given.stretch))
    if given.experiments:
        show_prompt(lab, given.prompt)
    for problem in problems:
        print("PROBLEM:", problem)
    return int(bool(problems))


def show_experiments(session: Session, num: int) -> list[str]:
    """Print the table of the night."""
    print("\n== The night")
    for line in log.render(session, Filter(num=0), width=118):
        print(line.plain)
    who = Counter(e.proposer for e in session.experiments)
    print("proposed by:", ", ".join(f"{name} {count}" for name, count in who.items()))
    numbers = [e.number for e in session.experiments]
    missing = numbers != list(range(len(numbers))) or len(numbers) < num + 2
    return [f"experiments are missing: {numbers}"] if missing else []


def show_trouble(session: Session, model: Model) -> list[str]:
    """Print what was injected and what came of it."""
    print("\n== Trouble\n  #  injected      calls  proposed by  verdict")
    for number, kind in TROUBLE.items():
        e = session.experiment(number)
        print(
            f"{number:3d}  {kind:<12}  {model.asked[number]:5d}  {e.proposer:<11}  {verdict_text(e)}"
        )
    for alert in session.alerts:
        print(f"told {alert.at[11:19]}  {alert.text}")
    outage = [e.number for e in session.experiments if e.number > 1 and e.proposer == "search"]
    back = [e.number for e in session.experiments if e.proposer == "llm"][-1]
    if not outage or back < outage[-1]:
        return [f"search proposed {outage}, the model last {back}"]
    return []


def show_cost(session: Session, model: Model, server: Server, lab: Lab) -> list[str]:
    """Print tokens and money by the record beside the server's count."""
    config = load_config(RunDirectory(lab.folder)).config.proposer
    provider = Provider(config)
    usage = session.usage
    tokens_in = sum(read for read, _ in model.answered)
    tokens_out = sum(write for _, write in model.answered)
    answered = (tokens_in * PRICE_IN + tokens_out * PRICE_OUT) / 1e6
    most = [provider.most(body["messages"], body["max_tokens"]) or 0.0 for body in model.died]
    print("\n== Money                calls  tokens in  tokens out  US dollars")
    print(
        f"server, answered       {len(model.answered):5d}  {tokens_in:9d}  {tokens_out:10d}  {answered:10.6f}"
    )
    print(f"died, at their most    {len(most):5d}  {'':9}  {'':10}  {sum(most):10.6f}")
    refused = len(server.requests) - len(model.answered) - len(most)
    print(f"refused, not billed    {refused:5d}")
    print(
        f"the record             {usage.num_calls:5d}  {usage.tokens_in:9d}  {usage.tokens_out:10d}"
        f"  {usage.cost_usd or 0.0:10.6f}"
    )
    problems = []
    if usage.num_calls != len(server.requests):
        problems.append(f"{len(server.requests)} calls were made, {usage.num_calls} are recorded")
    # Of a stream that ended early what came is booked, of other calls that died the most they can have cost.
    if not answered - 1e-6 <= (usage.cost_usd or 0.0) <= answered + sum(most) + 1e-6:
        problems.append("the money does not add up")
    return problems


def usual_seconds(session: Session, num: int = 10) -> float:
    """Return the median seconds of a trial, of the last `num` experiments."""
    return statistics.median(
        t.result.total_seconds or 0.0
        for e in session.experiments[-num:]
        for t in e.trials
        if t.result.ok
    )


def show_busy(lab: Lab, think: float, trial: float) -> None:
    """Print the share of each stretch in which the device worked, and what it waited for else."""
    idle = ("propose", "wait")
    print(f"\n== Busy share; an answer takes {think:.1f} s, a trial {trial:.1f} s (median)")
    for name, seconds in lab.busy.items():
        wall = seconds["wall"]
        busy = sum(v for kind, v in seconds.items() if kind not in (*idle, "wall"))
        waits = sum(seconds.get(kind, 0.0) for kind in idle)
        print(
            f"{name:<10} {busy:7.1f} s of {wall:7.1f} s  {busy / wall:5.1%}"
            f"   waited for a proposal {waits:5.1f} s, else {wall - busy - waits:5.1f} s"
        )


def show_prompt(lab: Lab, number: int) -> None:
    """Print the prompt of the last experiment up to `number` that a model proposed."""
    with Record.open(RunDirectory(lab.folder)) as record:
        asked = [e for e in record.session().experiments if e.proposer == "llm"]
        e = [e for e in asked if e.number <= number][-1]
        files = record.files(e.event)
    print(f"\n== The prompt of experiment {e.number}, tokens by part\n")
    print(files["prompt_tokens.md"].decode())
    print(files["prompt.md"].decode())


if __name__ == "__main__":
    raise SystemExit(main())
