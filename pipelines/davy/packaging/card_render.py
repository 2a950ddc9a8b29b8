"""The model card as Markdown and as one HTML page that needs nothing else.

Belongs here: escaping, layout, the plot. Not here: what the card says (`card`).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from davy.packaging.card import Bar, Section, Table, figure, sections
from davy.packaging.contract import Contract

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#d5dbe3;--mark:#e6f0e4;
--own:#2f7d4f;--rival:#8a94a3;--page:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b4;--line:#37404d;--mark:#1f3327;
--own:#6cc28e;--rival:#8a94a3;--page:#151a21}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.version{color:var(--soft);margin:0;font-family:ui-monospace,monospace}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:.75rem 0;
font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--line);
vertical-align:top}th{color:var(--soft);font-weight:600}tr.mark td{background:var(--mark)}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .soft{fill:var(--soft)}
"""

_SPECIAL = {ord(character): f"\\{character}" for character in "\\`*_[]|#"}


def render_text(contract: Contract) -> str:
    """Return the card as Markdown."""
    lines = [f"# {_text(contract.name)}", "", f"Version `{contract.version}`", ""]
    for section in sections(contract):
        lines += [f"## {_text(section.title)}", ""]
        for sentence in section.sentences:
            lines += [_text(sentence), ""]
        for table in section.tables:
            lines += [*_text_table(table), ""]
        if section.points:
            lines += [*(f"- {_text(point)}" for point in section.points), ""]
    return "\n".join(lines).rstrip() + "\n"


def render_page(contract: Contract) -> str:
    """Return the card as an HTML page without scripts and without links to other files."""
    name = html.escape(contract.name)
    version = html.escape(contract.version)
    body = "\n".join(_page_section(section) for section in sections(contract))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{name} {version}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{name}</h1>\n<p class="version">{version}</p>\n{body}\n</body>\n</html>\n'
    )


def _text(words: str) -> str:
    # Markdown lets HTML through, so a name with a tag in it must not stay one.
    return html.escape(" ".join(words.split()).translate(_SPECIAL), quote=False)


def _text_table(table: Table) -> Iterable[str]:
    if not table.rows:
        return
    yield _text_row(table.headers)
    yield "|" + "---|" * len(table.headers)
    for index, row in enumerate(table.rows):
        cells = [_text(cell) for cell in row]
        yield (
            "| " + " | ".join(f"**{c}**" if index == table.mark and c else c for c in cells) + " |"
        )


def _text_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _page_section(section: Section) -> str:
    parts = [f"<section>\n<h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in section.sentences]
    if section.plot:
        parts.append(_plot(section.plot))
    parts += [_page_table(table) for table in section.tables if table.rows]
    if section.points:
        items = "".join(f"<li>{html.escape(point)}</li>\n" for point in section.points)
        parts.append(f"<ul>\n{items}</ul>")
    return "\n".join([*parts, "</section>"])


def _page_table(table: Table) -> str:
    head = ""
    if any(table.headers):
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.headers)
        head = f"<tr>{cells}</tr>\n"
    rows = []
    for index, row in enumerate(table.rows):
        mark = ' class="mark"' if index == table.mark else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>")
    return f'<div class="wide"><table>\n{head}' + "\n".join(rows) + "\n</table></div>"


def _plot(bars: Sequence[Bar]) -> str:
    """Return an SVG of values with their intervals on one axis that starts at 0 or below."""
    low = min(0.0, *(bar.interval.lower for bar in bars))
    high = max(bar.interval.upper for bar in bars)
    left, width, step = 190, 430, 26
    span = (high - low) or 1.0

    def x(value: float) -> str:
        return f"{left + (value - low) / span * width:.1f}"

    marks = []
    for index, bar in enumerate(bars):
        y = 16 + index * step
        color = "var(--own)" if bar.own else "var(--rival)"
        item = bar.interval
        marks.append(
            f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{html.escape(bar.label)}</text>'
            f'<line x1="{x(item.lower)}" x2="{x(item.upper)}" y1="{y}" y2="{y}" '
            f'stroke="{color}" stroke-width="3"/>'
            f'<circle cx="{x(item.value)}" cy="{y}" r="5" fill="{color}"/>'
        )
    foot = 16 + len(bars) * step
    axis = (
        f'<line x1="{left}" x2="{left + width}" y1="{foot - 8}" y2="{foot - 8}" '
        'stroke="var(--line)"/>'
        f'<text class="soft" x="{left}" y="{foot + 8}">{figure(low)}</text>'
        f'<text class="soft" x="{left + width}" y="{foot + 8}" text-anchor="end">'
        f"{figure(high)}</text>"
    )
    total = left + width + 20
    return (
        f'<div class="wide"><svg width="{total}" height="{foot + 14}" role="img" '
        f'aria-label="measured values with their intervals">{"".join(marks)}{axis}</svg></div>'
    )
