"""A report as a list of blocks, written as Markdown and as one self-contained HTML page."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` and **bold** are understood."""

    text: str


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
    """A drawing, kept as figures/STEM.png and .svg."""

    stem: str
    drawing: Drawing
    caption: str


Block = Heading | Text | Warn | Fold | Table | Figure

STYLE = """
:root { color-scheme: light; --line: #e2e4e8; --dim: #6b7280; --accent: #0072b2; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1d2129; background: #fff;
  max-width: 1080px; margin: 2rem auto; padding: 0 1.2rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { margin-top: 2.6rem; border-bottom: 2px solid var(--line); }
h3 { margin-top: 1.8rem; } code { background: #f3f4f6; border-radius: 3px; padding: 0 .25em; font-size: .92em; }
nav { font-size: .9rem; color: var(--dim); } nav a { color: var(--accent); text-decoration: none; margin-right: 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th { border-bottom: 2px solid #9aa0a8; } tr.dim td { color: var(--dim); }
tbody tr:hover td { background: #f6f9fc; }
caption, figcaption { caption-side: bottom; text-align: left; color: var(--dim); font-size: .85rem;
  padding-top: .4rem; }
figure { margin: 1.2rem 0; } figure svg { max-width: 100%; height: auto; }
.warn { background: #fff7e6; border-left: 4px solid #e69f00; padding: .4rem .8rem; margin: .5rem 0; }
details { margin: .6rem 0; color: var(--dim); font-size: .87rem; } summary { cursor: pointer; }
"""


def write(blocks: Sequence[Block], title: str, out: Path) -> None:
    """Write report.md, index.html and figures/ into a folder."""
    (out / "figures").mkdir(parents=True, exist_ok=True)
    svgs = {block.stem: _draw(block, out / "figures") for block in blocks if isinstance(block, Figure)}
    (out / "report.md").write_text("\n\n".join(_markdown(block) for block in blocks) + "\n", encoding="utf-8")
    (out / "index.html").write_text(_page(blocks, title, svgs), encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table of raw values."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _draw(figure: Figure, folder: Path) -> str:
    """Write a figure as PNG and SVG; return the SVG element."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": figure.stem}):
        figure.drawing.savefig(folder / f"{figure.stem}.png", dpi=140)
        figure.drawing.savefig(text, format="svg", metadata={"Date": None})
    (folder / f"{figure.stem}.svg").write_text(text.getvalue(), encoding="utf-8")
    return text.getvalue()[text.getvalue().index("<svg") :]


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


def _page(blocks: Sequence[Block], title: str, svgs: dict[str, str]) -> str:
    links = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    nav = "".join(f'<a href="#{_anchor(text)}">{html.escape(text)}</a>' for text in links)
    body = [_html(block, svgs) for block in blocks]
    first = next((i for i, block in enumerate(blocks) if isinstance(block, Heading)), -1)
    body.insert(first + 1, f"<nav>{nav}</nav>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _html(block: Block, svgs: dict[str, str]) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level} id="{_anchor(block.text)}">{_inline(block.text)}</h{block.level}>'
    if isinstance(block, Warn):
        return f'<div class="warn">{_inline(block.text)}</div>'
    if isinstance(block, Fold):
        items = "".join(f"<li>{_inline(line)}</li>" for line in block.lines)
        return f"<details><summary>{_inline(block.title)}</summary><ul>{items}</ul></details>"
    if isinstance(block, Figure):
        return f"<figure>{svgs[block.stem]}<figcaption>{_inline(block.caption)}</figcaption></figure>"
    if isinstance(block, Table):
        head = "".join(f"<th>{_inline(cell)}</th>" for cell in block.header)
        rows = "".join(
            f'<tr class="dim">{_cells(row)}</tr>' if i in block.dim else f"<tr>{_cells(row)}</tr>"
            for i, row in enumerate(block.rows)
        )
        caption = f"<caption>{_inline(block.caption)}</caption>" if block.caption else ""
        table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        scrolled = f'<div class="scroll">{table}</div>'
        return f"<details><summary>{_inline(block.fold)}</summary>{scrolled}</details>" if block.fold else scrolled
    return f"<p>{_inline(block.text)}</p>"


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{_inline(cell)}</td>" for cell in row)


def _inline(text: str) -> str:
    escaped = html.escape(text)
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", re.sub(r"`(.+?)`", r"<code>\1</code>", escaped))


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
