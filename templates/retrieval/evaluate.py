"""Questions about the standard library, for a search engine (BM25) over its docstrings that knows exact words only.

A question is made of the first line of a docstring: some words are dropped, others take another ending or are replaced
by a word that means the same. A case is one question. Its score is 1 where its docstring comes first, less where it
comes later (1 / log2(1 + place), 0 beyond the tenth): the nDCG of one wanted text.

Hidden:
Test questions are about other modules, with more words replaced.
"""

import ast
import math
import random
import re
import sysconfig
from collections import Counter
from pathlib import Path

from autoresearch.task import Candidate, Score, WrongAnswerError

QUESTIONS = 160
MODULES = {
    "validation": "argparse calendar cmd configparser difflib doctest fileinput gettext heapq optparse pprint shutil "
    "string tempfile textwrap threading zipfile",
    "test": "bdb codecs fractions ftplib gzip imaplib mailbox pathlib pickletools random shelve smtplib statistics "
    "tarfile timeit trace traceback",
}
SAME = {
    "return": ("get", "give"),
    "remove": ("delete", "drop"),
    "create": ("make", "build"),
    "begin": ("start",),
    "print": ("show", "display"),
    "search": ("find",),
    "replace": ("change",),
    "list": ("sequence",),
    "file": ("document",),
    "string": ("text",),
    "directory": ("folder",),
    "function": ("routine",),
    "convert": ("turn",),
    "number": ("count",),
    "object": ("thing",),
    "error": ("failure",),
    "open": ("access",),
    "write": ("store",),
    "read": ("load",),
}


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return re.findall(r"[a-z]+", text.lower())


def texts(split: str) -> list[list[str]]:
    """Return the docstrings of the modules of a split, as words."""
    found = []
    folder = Path(sysconfig.get_paths()["stdlib"])
    for name in MODULES[split].split():
        path = folder / f"{name}.py"
        if not path.is_file():
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            is_known = isinstance(node, ast.FunctionDef | ast.ClassDef)
            doc = (ast.get_docstring(node) if is_known else None) or ""
            if len(words(doc.partition("\n")[0])) >= 5:
                found.append(words(doc))
    return found


class Engine:
    """BM25 with the usual constants."""

    def __init__(self, documents: list[list[str]]) -> None:
        self.lengths = [len(d) for d in documents]
        self.mean = sum(self.lengths) / len(documents)
        self.where: dict[str, list[tuple[int, int]]] = {}
        for number, document in enumerate(documents):
            for word, count in Counter(document).items():
                self.where.setdefault(word, []).append((number, count))

    def place(self, query: list[str], wanted: int) -> int:
        """Return at which place, from 1, the wanted document comes; equal ones come before it."""
        scores: Counter[int] = Counter()
        for word in query:
            known = self.where.get(word, [])
            weight = math.log(1 + (len(self.lengths) - len(known) + 0.5) / (len(known) + 0.5))
            for number, count in known:
                norm = 0.25 + 0.75 * self.lengths[number] / self.mean
                scores[number] += weight * count * 2.2 / (count + 1.2 * norm)
        mine = scores[wanted]
        return (
            1 + sum(score >= mine for number, score in scores.items() if number != wanted)
            if mine
            else 10**6
        )


def question(draw: random.Random, document: list[str], much: float) -> str:
    """Return a question about a document."""
    said = []
    for word in document[: draw.randint(6, 10)]:
        chance = draw.random()
        if chance < 0.3:
            continue
        if word in SAME and chance < 0.3 + 1.6 * much:
            word = draw.choice(SAME[word])
        elif len(word) > 3 and chance < 0.3 + much:
            word = word[:-1] if word.endswith("s") else draw.choice((word + "s", word + "ing"))
        said.append(word)
    return " ".join(said) or document[0]


def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
    """Return how well the docstring of each question was found."""
    draw = random.Random(f"{seed} {split}")
    documents = texts(split)
    engine = Engine(documents)
    wanted = [draw.randrange(len(documents)) for _ in range(QUESTIONS)]
    asked = [
        question(draw, documents[number], 0.45 if split == "test" else 0.35) for number in wanted
    ]
    answers = candidate.call("rewrite_all", asked)
    if len(answers) != QUESTIONS or any(type(a) is not str or len(a) > 2000 for a in answers):
        raise WrongAnswerError("a text of at most 2,000 letters for each question is wanted")
    scores = []
    for number, answer in zip(wanted, answers, strict=True):
        place = engine.place(words(answer), number)
        scores.append(1 / math.log2(1 + place) if place <= 10 else 0.0)
    return Score(scores)
