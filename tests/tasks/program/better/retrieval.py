"""Adds the forms of a word and what else it may be called; the words of the question count twice."""

GROUPS = (
    "return get give",
    "remove delete drop",
    "create make build",
    "begin start",
    "print show display",
    "search find",
    "replace change",
    "list sequence",
    "file document",
    "string text",
    "directory folder",
    "function routine",
    "convert turn",
    "number count",
    "object thing",
    "error failure",
    "open access",
    "write store",
    "read load",
)
SAME = {}
for group in GROUPS:
    for word in group.split():
        SAME[word] = group.split()


def forms(word):
    found = {word, word + "s"}
    if word.endswith("s"):
        found.add(word[:-1])
    for end in ("ing", "ings"):
        if word.endswith(end) and len(word) > len(end) + 2:
            found |= {word[: -len(end)], word[: -len(end)] + "s"}
    return found


def rewrite(question):
    words = question.lower().split()
    added = set()
    for word in words:
        near = forms(word)
        for form in list(near):
            near.update(SAME.get(form, ()))
        added |= near - {word}
    return " ".join(words * 2 + sorted(added))


def rewrite_all(questions):
    return [rewrite(question) for question in questions]
