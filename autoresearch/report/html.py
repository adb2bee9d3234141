"""The HTML report: one file that needs no network and no script."""

from datetime import datetime

from autoresearch.paths import templates_directory
from autoresearch.report import plot
from autoresearch.report.assets import Material
from autoresearch.report.canvas import MAX_LABELS, PAGE, svg
from autoresearch.report.content import build
from autoresearch.types import Session
from autoresearch.ui.summary import Summary

TEMPLATE = "report.html.j2"
REFRESH_SECONDS = 20


def render(
    session: Session,
    material: Material | None = None,
    *,
    now: datetime | None = None,
    is_watched: bool = False,
) -> str:
    """Return the page; one that is watched, because it is rewritten while the session runs, reloads itself."""
    import jinja2

    view = build(session, material, now)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_directory()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    losses = plot.curve_labels(session, view.material.curves)
    figure = plot.loss_curves(losses, palette=PAGE)
    return environment.get_template(TEMPLATE).render(
        view=view,
        refresh=REFRESH_SECONDS if is_watched and session.state == "running" else 0,
        by_experiment=_staircase(session, view.summary, "experiment", view.plot_alt),
        narrow=_staircase(session, view.summary, "experiment", view.plot_alt, is_narrow=True),
        most_labels=MAX_LABELS,
        by_hour=_staircase(session, view.summary, "hour", view.plot_alt + ", over hours"),
        losses=svg(figure, salt="loss", label="Training loss: " + ", ".join(losses))
        if figure
        else "",
    )


def _staircase(
    session: Session, summary: Summary, x: plot.XAxis, label: str, *, is_narrow: bool = False
) -> str:
    figure, titles = plot.staircase(session, summary, x=x, palette=PAGE, is_narrow=is_narrow)
    return svg(figure, salt=f"narrow-{x}" if is_narrow else x, label=label, titles=titles)
