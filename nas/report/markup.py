"""Functions that make HTML. A plain `str` is text and is escaped; an `Html` object is markup and is not."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from nas.tasks.base import Quantity

DASH = "\N{EN DASH}"
"""Shown instead of a missing number."""


class Html(str):
    """Text that is markup."""


def escape(text: object) -> Html:
    """Text as markup with special characters escaped; `Html` is returned unchanged."""
    return text if isinstance(text, Html) else Html(html.escape(str(text)))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Join parts into one piece of markup; plain text is escaped."""
    return Html(between.join(escape(part) for part in parts))


def page(title: str, body: Html) -> str:
    """A self-contained HTML file with style, scripts and plotly.js."""
    template = Template((resources.files("nas.report") / "template.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), body=body, plotly=get_plotlyjs())


def section(title: str, *parts: Html) -> Html:
    """A section with a heading."""
    return Html(f"<section><h2>{escape(title)}</h2>{join(parts)}</section>\n")


def paragraph(text: object) -> Html:
    """A paragraph."""
    return Html(f"<p>{escape(text)}</p>")


def missing(name: str, command: str) -> Html:
    """A note that a result is missing, with the command that makes it."""
    return Html(f'<p class="missing">No {escape(name)} yet: <code>{escape(command)}</code></p>')


def warning(text: object) -> Html:
    """A warning banner."""
    return Html(f'<p class="warning" role="alert">{escape(text)}</p>')


def details(summary: str, *parts: Html) -> Html:
    """Parts that are hidden until the user clicks on `summary`."""
    return Html(f"<details><summary>{escape(summary)}</summary>{join(parts)}</details>")


def table(header: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: bool = True) -> Html:
    """A table; with `numbers`, all columns except the first are right-aligned."""
    head = join(Html(f'<th scope="col">{escape(cell)}</th>') for cell in header)
    body = join(Html(f"<tr>{join(Html(f'<td>{escape(cell)}</td>') for cell in row)}</tr>\n") for row in rows)
    kind = ' class="numbers"' if numbers else ""
    return Html(
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def cards(values: Iterable[tuple[str, object]]) -> Html:
    """Labelled values side by side."""
    items = (Html(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>") for label, value in values)
    return Html(f'<dl class="cards">{join(items)}</dl>')


def code(text: str) -> Html:
    """A block of code."""
    return Html(f"<pre><code>{escape(text)}</code></pre>")


def plot(views: Mapping[str, go.Figure], caption: object = "") -> Html:
    """A figure with several views; the script of the template has a button for each."""
    items = (f'{{"name": {json.dumps(name)}, "figure": {view.to_json()}}}' for name, view in views.items())
    specification = f"[{', '.join(items)}]".replace("<", "\\u003c")  # "</script>" would end the script
    return Html(
        f'<figure class="plot"><div class="views"></div><div class="canvas"></div>'
        f'<script type="application/json">{specification}</script>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


# ---------------------------------------------------------------------- formatted numbers


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits; a dash for NaN and None."""
    if value is None or not math.isfinite(value):
        return DASH
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


def formatted(quantity: Quantity, value: float) -> str:
    """A value of a task's metric, as a percentage or a plain number."""
    return percent(value) if quantity.percent else number(value)


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction as a percentage; a dash for NaN and None."""
    if fraction is None or not math.isfinite(fraction):
        return DASH
    return f"{100 * fraction:.{decimals}f} %"


def count(value: float) -> str:
    """A large number with k, M or G; a dash for NaN."""
    if not math.isfinite(value):
        return DASH
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f}"


def power_of_ten(value: int) -> Html:
    """An integer of any size; integers from a million on are written like 1.9 × 10¹¹."""
    if value < 10**6:
        return Html(f"{value:,}")
    mantissa, exponent = f"{value:.1e}".split("e")
    return Html(f"{mantissa} &times; 10<sup>{int(exponent)}</sup>")
