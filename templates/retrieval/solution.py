"""Rewrites a question so that a fixed search engine finds the text it is about. `rewrite_all` is called once."""

PLURALS = 0  # 1: words are added without or with a final s {0, 1}
ENDINGS = 0  # 1: words are added without -ing, -ed and -er {0, 1}
SYNONYMS = 0  # 1: words of the table below are added {0, 1}
SHORTEST = 1  # words with fewer letters are dropped [1, 6]

TABLE = {
    "delete": "remove",
    "start": "begin",
    "make": "create",
    "show": "print",
    "find": "search",
    "get": "return",
    "change": "replace",
}


def rewrite(question: str) -> str:
    """Return the words that the search engine is given: it counts exact words, rare ones more."""
    words = [word for word in question.lower().split() if len(word) >= SHORTEST]
    added = []
    for word in words:
        if PLURALS:
            added.append(word[:-1] if word.endswith("s") else word + "s")
        if ENDINGS:
            added += [word[: -len(end)] for end in ("ing", "ed", "er") if word.endswith(end)]
        if SYNONYMS and word in TABLE:
            added.append(TABLE[word])
    return " ".join(words + added)


def rewrite_all(questions: list[str]) -> list[str]:
    """Return many questions rewritten, each by itself."""
    return [rewrite(question) for question in questions]
