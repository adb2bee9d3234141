"""Makes the pictures of the docs from a session: live.png, report.png, progress.png.

    python docs/make_pictures.py RUN_DIRECTORY [TAG]

Needs Chromium or Chrome on PATH. The pictures are reduced to 128 colours to stay small.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.report import html, plot
from autoresearch.report.assets import gather
from autoresearch.types import Session
from autoresearch.ui.console import THEME

DOCS = Path(__file__).resolve().parent
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #14181d; color: #e4e8ec; }}
pre {{ margin: 0; padding: 18px 22px; font: 14px/1.45 "DejaVu Sans Mono", Menlo, monospace; }}
</style><pre>{code}</pre>"""


def screenshot(page: Path, width: int, height: int, *flags: str) -> bytes:
    """Return a picture of a page as the browser shows it."""
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    )
    target = page.with_suffix(".png")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--hide-scrollbars", f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={width},{height}", f"--screenshot={target}", *flags, page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target.read_bytes()


def save(name: str, data: bytes) -> None:
    """Write a picture with few colours, the rare ones too."""
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    few = image.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(DOCS / name, optimize=True)


def terminal(lines: list[Text], folder: Path, name: str, width: int) -> None:
    """Save lines as a picture of a terminal."""
    console = Console(
        record=True, width=width, theme=THEME, file=io.StringIO(), force_terminal=True,
        color_system="truecolor", markup=False, highlight=False, emoji=False,
    )  # fmt: skip
    for line in lines:
        console.print(line, soft_wrap=True)
    code = console.export_html(inline_styles=True, code_format="{code}", theme=dark())
    page = folder / f"{name}.html"
    page.write_text(PAGE.format(code=code), encoding="utf-8")
    save(f"{name}.png", screenshot(page, int(width * 8.43) + 48, int(len(lines) * 20.3) + 40))


def dark() -> object:
    """Return the colours of a dark terminal."""
    from rich.terminal_theme import TerminalTheme

    normal = [
        (20, 24, 29), (255, 143, 133), (76, 195, 138), (229, 181, 103),
        (134, 176, 242), (207, 159, 224), (108, 205, 214), (228, 232, 236),
    ]  # fmt: skip
    bright = [(138, 148, 160), *normal[1:]]
    return TerminalTheme((20, 24, 29), (228, 232, 236), normal, bright)


def live(session: Session) -> list[Text]:
    """Return the rows of the live view as they were during the last scored experiment."""
    from autoresearch.events import Progress
    from autoresearch.types import State
    from autoresearch.ui.live.rows import live_rows, verdict_line
    from autoresearch.ui.live.state import LiveState
    from autoresearch.ui.summary import digits_of, noise_of

    done = [e for e in session.experiments if e.verdict is not None and e.number]
    last = next(e for e in reversed(done) if e.score is not None)
    before = tuple(e for e in session.experiments if e.number < last.number)
    running = replace(last, verdict=None, state=State.RUNNING, trials=())
    state = LiveState(replace(session, experiments=(*before, running)), lambda: 0.0)
    digits = digits_of(noise_of(session), session.metric)
    lines = [verdict_line(e, 100, digits) for e in done if e.number < last.number][-7:]
    result = last.trials[0].result
    budget = session.setup.budget_seconds if session.setup else 300.0
    points = [p for p in result.curve if p.seconds <= 0.61 * budget]
    for p in points:
        state.handle(
            Progress(
                number=last.number, label="picture", phase="train", seconds=p.seconds,
                budget_seconds=budget, num_steps=(result.num_steps or 0) * 61 // 100,
                tokens_per_second=result.tokens_per_second, memory_mb=result.peak_memory_mb, point=p,
            )
        )  # fmt: skip
    state.started = -0.9 * session.wall_seconds
    return lines + live_rows(state, width=100, utf8=True, clock=0.0)


def main() -> None:
    """Make all pictures."""
    tag = sys.argv[2] if len(sys.argv) > 2 else None
    with Record.open(RunDirectory(Path(sys.argv[1]).resolve()), tag) as record:
        session = record.session()
        material = gather(record, session)
        session = with_curves(record, session)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        terminal(live(session), folder, "live", 100)
        page = folder / "report.html"
        page.write_text(html.render(session, material), encoding="utf-8")
        save("report.png", screenshot(page, 1100, 1180))
        save("progress.png", plot.to_bytes(session, "png"))


def with_curves(record: Record, session: Session) -> Session:
    """Return the session with the curve of the newest scored experiment read in."""
    experiments = list(session.experiments)
    for i, e in reversed(list(enumerate(experiments))):
        if e.score is not None and e.number and e.trials[0].event:
            first = e.trials[0]
            result = replace(first.result, curve=record.curve(first.event))
            trials = (replace(first, result=result), *e.trials[1:])
            experiments[i] = replace(e, trials=trials)
            break
    return replace(session, experiments=tuple(experiments))


if __name__ == "__main__":
    main()
