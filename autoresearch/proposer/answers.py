"""The answer of an agent: headings, then strict search/replace blocks or a whole file.

    HYPOTHESIS: why it should help
    EXPECTED EFFECT: what should happen to the score
    DESCRIPTION: one line, what changes
    THEME: one or two words
    NOTE: a line for the lab notes (optional)
    FILE: train.py
    <<<<<<< SEARCH
    lines that are in the file now
    =======
    lines that take their place
    >>>>>>> REPLACE

or, in place of the blocks, the whole file between ``<<<<<<< WHOLE FILE`` and ``>>>>>>> END``.

What is defined, so that no edit is ever silently ignored or misplaced:
    - A block matches whole lines, exactly (spaces, tabs, case, code points); only line endings are taken as equal.
    - All blocks of a file match the text before the answer, so their order means nothing; blocks that overlap,
      match twice, match nowhere, have an empty search or change nothing are refused.
    - New lines get the line ending of the lines they replace; a file without a final newline stays without one.
    - Lines end at LF, CRLF or CR only, as for Python; a form feed or U+2028 is an ordinary character.
"""

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoresearch.util.text import one_line

MAX_DESCRIPTION = 200
MAX_TEXT = 1500
_QUOTED_LINES = 12

_HEADING = re.compile(
    r"^[#*>\s\ufeff\u200b-]*(?:\d+[.)])?[*\s]*"
    r"(HYPOTHESIS|EXPECTED EFFECT|DESCRIPTION|THEME|NOTE|FILE)\b[*\s]*:[*\s]*(.*)$",
    re.IGNORECASE,
)
_OPEN = re.compile(r"^<{5,9} ?(SEARCH|WHOLE FILE)\s*$")
_MIDDLE = re.compile(r"^={5,9}\s*$")
_CLOSE = re.compile(r"^>{5,9} ?(REPLACE|END)\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_MARKS = "`<<<<<<< SEARCH`, `=======`, `>>>>>>> REPLACE`, each alone at the beginning of a line"
_NEARLY = re.compile(
    r"^[\s>|*`+\u200b\ufeff-]*?(?:<{4,}|>{4,}|[<>]{2,}\s*(?:SEARCH|REPLACE|WHOLE FILE|END|UPDATED|ORIGINAL|HEAD)\b)"
    r"|^\W*(?:SEARCH|REPLACE|WHOLE FILE)\W*$"
)
"""A line that is most likely meant as a mark; hardly a line of Python looks so."""
_OTHER_FORMS = (
    (re.compile(r"&lt;&lt;|&gt;&gt;"), "HTML entities (`&lt;`) in place of `<`"),
    (re.compile(r"^\*\*\* (Begin Patch|Update File)", re.MULTILINE), "a patch (`*** Begin Patch`)"),
    (re.compile(r"^(--- |\+\+\+ |@@ )", re.MULTILINE), "a unified diff"),
    (re.compile(r"<(tool_call|function_call|invoke)\b|\"tool_calls\""), "a call of a tool"),
    (re.compile(r"^\s*(```|~~~)", re.MULTILINE), "code in a fence, without marks"),
)
_NAMES = (
    r"think|thinking|thought|thoughts|reasoning|reason|reflection|analysis|scratchpad|seed:think"
)
_THOUGHT_OPEN = re.compile(
    rf"<(?P<a>{_NAMES})(?:\s[^<>]*)?>|\[(?P<b>think|thinking)\]|\u25c1(?P<c>think)\u25b7"
    r"|<\|(?P<d>begin_of_thought|start_of_thought)\|>|<\|channel\|>(?P<e>analysis|commentary)\b[^\n]*?<\|message\|>"
    r"|<unused94>(?P<f>thought)?",
    re.IGNORECASE,
)
_THOUGHT_CLOSE = re.compile(
    rf"</(?:{_NAMES})>|\[/(?:think|thinking)\]|\u25c1/think\u25b7|<\|end_of_thought\|>"
    r"|<\|channel\|>final\b[^\n]*?<\|message\|>|<unused95>",
    re.IGNORECASE,
)
_AFTER_CHANNEL = re.compile(r"<\|(?:end|return|start)\|>(?:assistant)?")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z")


class AnswerError(Exception):
    """An answer nothing can be made of; the message is written for the agent that gave it."""


class NoAnswerError(AnswerError):
    """An answer without any edit."""


@dataclass(frozen=True)
class Block:
    """Replace lines that are in a file by others."""

    path: str
    search: tuple[str, ...]
    """Lines without their endings."""
    replace: tuple[str, ...]


@dataclass(frozen=True)
class WholeFile:
    """A file given in full."""

    path: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What an agent said, parsed but not yet applied."""

    edits: tuple[Block | WholeFile, ...] = ()
    headings: Mapping[str, str] = field(default_factory=dict)
    """Lower-case heading -> text, cleaned and cut to a sensible length."""


def split_lines(text: str) -> list[str]:
    """Split where Python does, keeping the endings."""
    return _LINE.findall(text)


def parse_answer(text: str, paths: Sequence[str]) -> Answer:
    """Read an answer; what a model thought before it is left out.

    Args:
        text: What the agent said.
        paths: Editable paths; the first is meant when no FILE heading is given.

    Raises:
        NoAnswerError: it holds no edit; says what it holds instead.
        AnswerError: it can be read in more than one way, or a mark is missing or wrong; says what was seen, where.
    """
    lines = _without_thoughts(text.replace("\r\n", "\n").split("\n"))
    headings: dict[str, list[str]] = {}
    places: dict[str, int] = {}
    edits: list[Block | WholeFile] = []
    path, current, i = paths[0], "", 0
    while i < len(lines):
        line = lines[i]
        if match := _OPEN.match(line):
            edit, i = _read_block(lines, i, path, match.group(1))
            edits.append(edit)
            current = ""
        elif match := _HEADING.match(line):
            current, said = match.group(1).lower(), match.group(2)
            if current == "file":
                path, current = _path_of(said, paths), ""
            elif current in headings and current != "note":
                raise AnswerError(
                    f"the answer holds {current.upper()} twice, at lines {places[current]} and {i + 1}: give one"
                    " proposal, with each heading once"
                )
            elif edits and (not headings or current not in ("note", "theme")):
                raise AnswerError(
                    f"an edit stands before {current.upper()} at line {i + 1}: give all headings first, then the edits"
                    " that belong to them"
                )
            else:
                headings.setdefault(current, []).append(said)
                places[current] = i + 1
        elif _FENCE.match(line):
            current = ""
        elif _NEARLY.match(line):
            raise _wrong_mark(i, line)
        elif current:
            headings[current].append(line)
        i += 1
    if not edits:
        raise NoAnswerError(
            f"the answer holds no edit but {_seen(text, lines)}: give at least one SEARCH/REPLACE block, with the marks"
            f" {_MARKS}"
        )
    return Answer(tuple(edits), {k: one_line("\n".join(v), MAX_TEXT) for k, v in headings.items()})


def is_thinking_mark(line: str) -> bool:
    """Return whether a line is a mark of thinking and nothing else."""
    return any(pattern.fullmatch(line) for pattern in (_THOUGHT_OPEN, _THOUGHT_CLOSE))


def read_headings(text: str) -> dict[str, str]:
    """Return the headings of a description without edits; of one given twice the last."""
    headings: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines():
        if match := _HEADING.match(line):
            current = match.group(1).lower()
            headings[current] = [match.group(2)]
        elif current:
            headings[current].append(line)
    return {k: one_line("\n".join(v), MAX_TEXT) for k, v in headings.items()}


def _without_thoughts(lines: Sequence[str]) -> list[str]:
    """Return the lines with those emptied, or parts of them, that are between marks of thinking.

    Within a block nothing is a mark: code may hold such words. A closing mark without an opening one ends what was
    thought since the beginning: some servers keep the opening mark to themselves.

    Raises:
        AnswerError: a thought has no end.
    """
    result = list(lines)
    i = 0
    while i < len(result):
        line = result[i]
        if _OPEN.match(line):
            i = _end_of(result, i)
        elif match := _THOUGHT_OPEN.search(line):
            rest = [line[match.end() :], *result[i + 1 :]]
            found = next(
                ((n, m) for n, r in enumerate(rest) if (m := _THOUGHT_CLOSE.search(r))), None
            )
            if found is None and line[: match.start()].strip():
                i += 1  # A word about thinking, not a thought.
                continue
            if found is None:
                raise NoAnswerError(
                    f"the thought that begins at line {i + 1} of the answer, `{match.group()}`, has no end: close it,"
                    " then give the answer"
                )
            number, close = found
            after = rest[number][close.end() :]
            result[i : i + number + 1] = [line[: match.start()] + after] + [""] * number
            continue
        elif match := _THOUGHT_CLOSE.search(line):
            result[: i + 1] = [""] * i + [line[match.end() :]]
            continue
        elif match := _AFTER_CHANNEL.search(line):
            result[i] = line[: match.start()] + line[match.end() :]
            continue
        i += 1
    return result


def _end_of(lines: Sequence[str], start: int) -> int:
    """Return the line after the block that opens at `start`; the next line where a thought holds half a block."""
    for i in range(start + 1, len(lines)):
        if _CLOSE.match(lines[i]):
            return i + 1
        if _OPEN.match(lines[i]) or (
            _THOUGHT_CLOSE.match(lines[i].strip()) and any(map(_OPEN.match, lines[i:]))
        ):
            break
    return start + 1


def _path_of(said: str, paths: Sequence[str]) -> str:
    """Return the editable path a FILE heading means: `./train.py` and `train.py (the only file)` are clear."""
    said = said.strip().strip("`*\"' ")
    bare = re.sub(r"\s+[(\[#,-].*$", "", said).strip("`*\"' :")
    for path in paths:
        if bare in (path, f"./{path}") or (bare.startswith("/") and bare.endswith(f"/{path}")):
            return path
    return bare or said


def _wrong_mark(i: int, line: str) -> AnswerError:
    shown = one_line(ascii(line)[1:-1] if not line.isascii() else line, 80)
    return AnswerError(
        f"line {i + 1} of the answer, `{shown}`, looks like a mark, but is none that can stand there: the marks are"
        f" {_MARKS}"
    )


def _seen(text: str, lines: Sequence[str]) -> str:
    """Return in words what an answer without edits holds."""
    for pattern, name in _OTHER_FORMS:
        if pattern.search(text):
            return name
    first = next((line for line in lines if line.strip()), "")
    return f"text that begins with `{one_line(first, 80)}`" if first else "nothing"


def _read_block(
    lines: Sequence[str], start: int, path: str, kind: str
) -> tuple[Block | WholeFile, int]:
    """Read the block that opens at `start`; return it and the index of its last line."""
    end = start
    for end in range(start + 1, len(lines)):
        if _CLOSE.match(lines[end]):
            break
        if _OPEN.match(lines[end]) or _NEARLY.match(lines[end]):
            raise _wrong_mark(end, lines[end])
    else:
        raise AnswerError(
            f"the block that opens at line {start + 1} of the answer is not closed: the answer was cut off,"
            " or the closing mark is missing"
        )
    body = list(lines[start + 1 : end])
    if kind == "WHOLE FILE":
        if len(body) > 1 and _FENCE.match(body[0]) and _FENCE.match(body[-1]):
            body = body[1:-1]
        return WholeFile(path, "".join(f"{line}\n" for line in body)), end
    middles = [i for i, line in enumerate(body) if _MIDDLE.match(line)]
    exact = [i for i in middles if body[i].strip() == "======="]
    middles = exact if len(exact) == 1 else middles
    if len(middles) != 1:
        raise AnswerError(
            f"the block at line {start + 1} of the answer has {len(middles) or 'no'} `=======` line"
            + ("s, not one: give the file whole if it holds such a line" if middles else "")
        )
    middle = middles[0]
    return Block(path, tuple(body[:middle]), tuple(body[middle + 1 :])), end


def apply_answer(answer: Answer, files: Mapping[str, str]) -> dict[str, str]:
    """Return the full text of every editable file after the edits.

    Raises:
        AnswerError: an edit cannot be made; says all that is wrong, with the nearest lines.
    """
    unknown = sorted({edit.path for edit in answer.edits} - set(files))
    if unknown:
        names, allowed = ", ".join(f"`{p}`" for p in unknown), ", ".join(f"`{p}`" for p in files)
        raise AnswerError(f"{names} may not be changed, only {allowed}")
    result = dict(files)
    problems: list[str] = []
    for path in files:
        mine = [edit for edit in answer.edits if edit.path == path]
        whole = [edit for edit in mine if isinstance(edit, WholeFile)]
        blocks = [edit for edit in mine if isinstance(edit, Block)]
        if whole and len(mine) > 1:
            problems.append(
                f"`{path}` is given whole and changed by other blocks too: give one of both"
            )
        elif whole:
            result[path] = _with_endings_of(whole[0].text, files[path])
        elif blocks:
            text, found = _apply_blocks(path, files[path], blocks)
            result[path] = text
            problems += found
    if problems:
        raise AnswerError("\n\n".join(problems))
    return result


def _apply_blocks(path: str, text: str, blocks: Sequence[Block]) -> tuple[str, list[str]]:
    lines = split_lines(text)
    bare = [line.rstrip("\r\n") for line in lines]
    problems: list[str] = []
    spans: list[tuple[int, int, int, Block]] = []
    for number, block in enumerate(blocks, 1):
        label = f"block {number} of `{path}`"
        places = _find(bare, block.search)
        if not any(line.strip() for line in block.search):
            problems.append(
                f"{label} has an empty search: to insert lines, search for a line beside them and repeat it"
            )
        elif block.search == block.replace:
            problems.append(f"{label} changes nothing: search and replacement are the same")
        elif len(places) > 1:
            where = ", ".join(str(place + 1) for place in places[:8])
            problems.append(
                f"{label} matches {len(places)} places (lines {where}): add lines around it"
            )
        elif not places:
            problems.append(f"{label} matches nothing.\n{_nearest(bare, block.search)}")
        else:
            spans.append((places[0], places[0] + len(block.search), number, block))
    spans.sort(key=lambda span: span[0])
    problems += [
        f"blocks {a[2]} and {b[2]} of `{path}` overlap at line {b[0] + 1}: join them into one"
        for a, b in itertools.pairwise(spans)
        if b[0] < a[1]
    ]
    if problems:
        return text, problems
    for start, stop, _, block in reversed(spans):
        lines[start:stop] = _replacement(lines, start, stop, block.replace)
    return "".join(lines), []


def _find(lines: Sequence[str], wanted: Sequence[str]) -> list[int]:
    if not wanted:
        return []
    size = len(wanted)
    target = list(wanted)
    return [
        i
        for i in range(len(lines) - size + 1)
        if lines[i] == target[0] and list(lines[i : i + size]) == target
    ]


def _replacement(lines: Sequence[str], start: int, stop: int, new: Sequence[str]) -> list[str]:
    """The new lines with the endings of those they replace."""
    endings = [line[len(line.rstrip("\r\n")) :] for line in lines[start:stop]]
    usual = next((e for e in endings if e), _ending(lines))
    last = endings[-1]
    if not new:
        return []
    return [line + usual for line in new[:-1]] + [new[-1] + (last if last == "" else usual)]


def _ending(lines: Sequence[str]) -> str:
    found = [line[len(line.rstrip("\r\n")) :] for line in lines]
    counts = {e: found.count(e) for e in ("\n", "\r\n", "\r")}
    return max(counts, key=lambda e: counts[e])


def _with_endings_of(text: str, old: str) -> str:
    """A whole new file in the manner of the old: its line ending, its final newline or none."""
    lines = split_lines(old)
    ending = _ending(lines) if lines else "\n"
    if lines and not lines[-1].endswith(("\n", "\r")):
        text = text.removesuffix("\n")
    return text.replace("\n", ending)


def _nearest(lines: Sequence[str], wanted: Sequence[str]) -> str:
    """Quote the lines of the file that are most like a search text, with numbers and visible tabs."""
    size = max(1, len(wanted))
    best, best_score = 0, -1.0
    keys = {line.strip() for line in wanted if line.strip()}
    target = "\n".join(line.strip() for line in wanted)
    rough = [
        (sum(line.strip() in keys for line in lines[i : i + size]), i)
        for i in range(max(1, len(lines) - size + 1))
    ]
    top = sorted(rough, key=lambda pair: -pair[0])
    candidates = [i for score, i in top[:8] if score] or [i for _, i in rough]
    for i in candidates:
        window = "\n".join(line.strip() for line in lines[i : i + size])
        matcher = difflib.SequenceMatcher(None, window, target, autojunk=False)
        if matcher.quick_ratio() > best_score and (score := matcher.ratio()) > best_score:
            best, best_score = i, score
    shown = [
        f"{number:4d}| {line}"
        for number, line in enumerate(lines[best : best + min(size, _QUOTED_LINES)], best + 1)
    ]
    said = "The nearest lines of the file are (number, bar, one space, then the line itself):\n"
    quoted = "\n".join(shown)
    note = ""
    first = next(
        (
            (a, b)
            for a, b in zip(lines[best : best + size], wanted, strict=False)
            if a != b and a.split() == b.split()
        ),
        None,
    )
    if first:
        note = f"\nOnly the spaces differ: the file has {first[0]!r}, the search {first[1]!r}."
    return said + quoted + note
