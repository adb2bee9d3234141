"""Opens the report from disk in a real browser, without a network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import sessions
from PIL import Image, ImageStat
from test_report import material

from autoresearch.report import html

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium or google-chrome on PATH: the report is not opened"
)


def browse(page: Path, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run",
            "--disable-background-networking", "--enable-logging=stderr", "--log-level=0",
            f"--user-data-dir={page.parent / 'profile'}", *flags, page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "HOME": str(page.parent)},
    )  # fmt: skip


@pytest.fixture(params=["night", "hostile"])
def page(request, tmp_path):
    session = getattr(sessions, request.param)()
    path = tmp_path / "report.html"
    path.write_text(html.render(session, material(session), now=sessions.NOW), encoding="utf-8")
    return path


def shot(page: Path, name: str, width: int, *flags: str) -> Image.Image:
    path = page.parent / f"{name}.png"
    browse(page, f"--screenshot={path}", f"--window-size={width},1400", *flags)
    return Image.open(path).convert("RGB")


def test_report_in_a_browser(page):
    done = browse(page, "--dump-dom")
    assert "CONSOLE" not in done.stderr
    dom = done.stdout
    assert "<h1>GPT of 50.3M parameters on climbmix-400b-shuffle <span" in dom
    assert dom.count("<h2>") >= 7
    assert dom.count("<table>") >= 3
    assert dom.count("<svg ") == 4
    assert "<script" not in dom

    light = shot(page, "light", 1200)
    dark = shot(page, "dark", 1200, "--blink-settings=preferredColorScheme=0")
    phone = shot(page, "phone", 500)
    assert min(ImageStat.Stat(light.crop((0, 0, 1200, 20))).mean) > 240
    assert max(ImageStat.Stat(dark.crop((0, 0, 1200, 20))).mean) < 50
    # The page does not scroll sideways: the right margin is empty at any width.
    for image in (light, phone):
        edge = image.crop((image.width - 6, 0, image.width, image.height))
        assert len(edge.getcolors(1 << 24)) == 1


def test_the_browser_would_tell_of_an_error(tmp_path):
    """The check above sees what it claims to see: a forbidden script is reported."""
    path = tmp_path / "bad.html"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    path.write_text(
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><script>1</script>'
    )
    assert "CONSOLE" in browse(path, "--dump-dom").stderr
