"""A report as a list of blocks, written as Markdown and as one self-contained HTML page."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` and **bold** are understood; a `lead` says the most important thing."""

    text: str
    lead: bool = False


@dataclass(frozen=True)
class Warn:
    """Something that the reader must not overlook."""

    text: str


@dataclass(frozen=True)
class Fold:
    """A list of lines that most readers skip."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of cells, all but the first column aligned to the right; `dim` rows stand back; a `fold` title hides it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    dim: frozenset[int] = frozenset()
    fold: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing, kept as figures/STEM.png and .svg; a page shows its `panels`, if any, as they fit beside each other.

    `panel_px` is what a panel needs to be readable.
    """

    stem: str
    drawing: Drawing
    caption: str
    panels: Sequence[Drawing] = ()
    panel_px: int = 300


Block = Heading | Text | Warn | Fold | Table | Figure

STYLE = """
:root { color-scheme: light; --line: #e4e7eb; --dim: #667085; --accent: #0072b2; --ink: #1d2129; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink); background: #fff;
  max-width: 1080px; margin: 0 auto; padding: 1.6rem 1.2rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 2.8rem 0 .6rem; padding-top: 1.2rem;
  border-top: 3px solid var(--ink); }
h3 { font-size: 1.08rem; margin: 2.2rem 0 .6rem; } p { margin: .6rem 0; overflow-wrap: anywhere; }
p.lead { font-size: 1.08rem; } code { background: #f3f4f6; border-radius: 3px; padding: 0 .25em; font-size: .9em; }
nav { font-size: .92rem; line-height: 1.8; } nav a { color: var(--accent); text-decoration: none; margin-right: 1rem;
  white-space: nowrap; } nav a.top { display: block; font-weight: 600; white-space: normal; margin-top: .4rem; }
.scroll { overflow-x: auto; margin: .8rem 0 .3rem; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .24rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; padding-left: 0;
  box-shadow: 1px 0 0 var(--line); }
thead th { border-bottom: 2px solid #9aa0a8; vertical-align: bottom; } tr.dim td { color: var(--dim); }
tbody tr:hover td { background: #f6f9fc; }
.note, figcaption { color: var(--dim); font-size: .85rem; line-height: 1.45; margin: .4rem 0 0; }
figure { margin: 1.2rem 0 1.6rem; } figure svg { display: block; width: 100%; height: auto; max-width: 540px; }
.panels { display: grid; gap: .6rem 1rem; } .panels svg { max-width: none; }
svg text { font-family: inherit !important; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; list-style: none; margin: 0 0 .5rem; padding: 0;
  font-size: .88rem; } figure .legend svg { display: inline-block; width: 26px; height: 8px; margin: 0 .45em .1em 0; }
.warn { background: #fff8e8; border-left: 4px solid #e69f00; padding: .4rem .8rem; margin: .8rem 0; font-size: .92rem; }
.warn p { margin: .25rem 0; } details { margin: .6rem 0; color: var(--dim); font-size: .87rem; }
details li { overflow-wrap: anywhere; } summary { cursor: pointer; color: var(--accent); font-size: .95rem; }
@media (max-width: 600px) { body { font-size: 15px; padding: 1rem .9rem 3rem; } h1 { font-size: 1.5rem; }
  h2 { font-size: 1.2rem; } th, td { padding: .24rem .45rem; } details ul { padding-left: 1.1rem; } }
@media print { details { display: none; } figure, tr { break-inside: avoid; } }
"""


OWN_FIGURES = r"\d{1,2}-(aggregates|profiles|improvement|curves|games|games-\w+|off-policy)\.(png|svg)"


def write(blocks: Sequence[Block], title: str, out: Path) -> None:
    """Write report.md, index.html and figures/ into a folder; an earlier report's figures go."""
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for old in (out / "figures").iterdir():
        if re.fullmatch(OWN_FIGURES, old.name):
            old.unlink()
    for block in blocks:
        if isinstance(block, Figure):
            block.drawing.savefig(out / "figures" / f"{block.stem}.png", dpi=170)
            (out / "figures" / f"{block.stem}.svg").write_text(_svg(block.drawing, block.stem), encoding="utf-8")
    (out / "report.md").write_text("\n\n".join(_markdown(block) for block in blocks) + "\n", encoding="utf-8")
    (out / "index.html").write_text(_page(blocks, title), encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table of raw values."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _svg(drawing: Drawing, name: str) -> str:
    """Return a drawing as text; `name` keeps its ids apart from other drawings' on the same page."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        drawing.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


# --------------------------------------------------------------------------------------------- markdown


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Warn):
        return f"> **Note.** {block.text}"
    if isinstance(block, Fold):
        return "\n".join([f"{block.title}:", "", *(f"- {line}" for line in block.lines)])
    if isinstance(block, Figure):
        return f"![{block.caption}](figures/{block.stem}.png)\n\n*{block.caption}*"
    if isinstance(block, Table):
        cells = [[cell.replace("|", "\\|") for cell in row] for row in [block.header, *block.rows]]
        rule = "|---|" + "---:|" * (len(block.header) - 1)
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        caption = f"\n\n*{block.caption}*" if block.caption else ""
        return "\n".join([lines[0], rule, *lines[1:]]) + caption
    return block.text


# ------------------------------------------------------------------------------------------------- html


def _page(blocks: Sequence[Block], title: str) -> str:
    body: list[str] = []
    links = ""
    for block in blocks:
        anchor = f"s{len(body)}"
        body.append(_html(block, anchor))
        if isinstance(block, Heading) and block.level > 1:
            kind = ' class="top"' if block.level == 2 else ""
            links += f'<a{kind} href="#{anchor}">{html.escape(block.text)}</a>\n'
    body.insert(1, f"<nav>{links}</nav>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    ).replace('</div>\n<div class="warn">', "\n")  # warnings in a row share a box


def _html(block: Block, anchor: str) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level} id="{anchor}">{_inline(block.text)}</h{block.level}>'
    if isinstance(block, Warn):
        return f'<div class="warn"><p>{_inline(block.text)}</p></div>'
    if isinstance(block, Fold):
        items = "".join(f"<li>{_inline(line)}</li>" for line in block.lines)
        return f"<details><summary>{_inline(block.title)}</summary><ul>{items}</ul></details>"
    if isinstance(block, Figure):
        return _html_figure(block)
    if isinstance(block, Table):
        return _html_table(block)
    return f"<p{' class=lead' if block.lead else ''}>{_inline(block.text)}</p>"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in table.header)
    rows = "".join(
        f'<tr class="dim">{_cells(row)}</tr>' if i in table.dim else f"<tr>{_cells(row)}</tr>"
        for i, row in enumerate(table.rows)
    )
    note = f'<p class="note">{_inline(table.caption)}</p>' if table.caption else ""
    whole = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}'
    return f"<details><summary>{_inline(table.fold)}</summary>{whole}</details>" if table.fold else whole


def _html_figure(figure: Figure) -> str:
    svgs = [_svg(drawing, f"{figure.stem}-{i}") for i, drawing in enumerate(figure.panels or [figure.drawing])]
    inner = "".join(svg[svg.index("<svg") :] for svg in svgs)
    if figure.panels:
        columns = f"repeat(auto-fill, minmax(min(100%, {figure.panel_px}px), 1fr))"
        inner = f'{_legend(figure.panels)}<div class="panels" style="grid-template-columns: {columns}">{inner}</div>'
    return f"<figure>{inner}<figcaption>{_inline(figure.caption)}</figcaption></figure>"


def _legend(panels: Sequence[Drawing]) -> str:
    """Return a list of the lines and areas that any of the panels has a label for."""
    handles: dict[str, Any] = {}
    for axes in [axes for panel in panels for axes in panel.axes]:
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    items = "".join(
        f'<li><svg viewBox="0 0 26 8"><path d="M0 4H26" {_stroke(handle)}/></svg>{html.escape(label)}</li>'
        for label, handle in handles.items()
    )
    return f'<ul class="legend">{items}</ul>' if items else ""


def _stroke(handle: Any) -> str:
    """Describe a line, or the color of bars, to SVG."""
    if isinstance(handle, BarContainer):
        return f'stroke="{to_hex(handle.patches[0].get_facecolor())}" stroke-width="8"'
    dash, width = STROKES[str(handle.get_linestyle())], handle.get_linewidth() + 0.5
    return f'stroke="{handle.get_color()}" stroke-width="{width:g}" stroke-dasharray="{dash}"'


STROKES = {"-": "none", "--": "5 2.5", "-.": "7 2 1.5 2", ":": "1.5 2", "None": "none"}  # of SVG, by matplotlib's


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{_inline(cell)}</td>" for cell in row)


def _inline(text: str) -> str:
    escaped = html.escape(text)
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", re.sub(r"`(.+?)`", r"<code>\1</code>", escaped))
