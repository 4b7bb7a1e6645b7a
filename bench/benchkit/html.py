# SPDX-License-Identifier: MIT
"""The report: one page that needs nothing else."""
import html
import io

from . import markdown, plots
from .figures import Figures

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c1f24}
table{border-collapse:collapse;font-size:13px;margin:.6rem 0}th,td{padding:.2rem .6rem;border-bottom:1px solid #dde1e6;
text-align:left;vertical-align:top}td:nth-child(n+2){font-variant-numeric:tabular-nums}
.missed,.failed{color:#b42318;font-weight:600}.met,.stretch{color:#137a3d}svg{max-width:100%;height:auto}
h1,h2{line-height:1.2}h2{margin-top:2rem}h3{margin-bottom:.2rem}.quiet{color:#666}"""


def inline(text):
    """Bold and code of one line of Markdown."""
    parts = html.escape(text).split("**")
    text = "".join(part if number % 2 == 0 else f"<b>{part}</b>" for number, part in enumerate(parts))
    parts = text.split("`")
    return "".join(part if number % 2 == 0 else f"<code>{part}</code>" for number, part in enumerate(parts))


def cells(line, tag):
    found = [cell.strip() for cell in line.strip().strip("|").split("|")]
    classes = [f' class="{cell}"' if cell in ("missed", "failed", "met", "stretch") else "" for cell in found]
    return "<tr>" + "".join(f"<{tag}{kind}>{inline(cell)}</{tag}>" for cell, kind in zip(found, classes)) + "</tr>"


def body(text):
    """The Markdown that this package writes, and no other, as HTML."""
    out, state = [], ""

    def enter(kind):
        nonlocal state
        if state != kind:
            out.append({"table": "</table>", "ul": "</ul>", "pre": "</pre>", "p": "</p>"}.get(state, ""))
            out.append({"table": "<table>", "ul": "<ul>", "pre": "<pre>", "p": "<p>"}.get(kind, ""))
            state = kind

    for line in text.splitlines():
        if line.startswith("```"):
            enter("" if state == "pre" else "pre")
        elif state == "pre":
            out.append(html.escape(line))
        elif line.startswith("#"):
            enter("")
            level = len(line) - len(line.lstrip("#"))
            out.append(f"<h{level}>{inline(line[level:].strip())}</h{level}>")
        elif line.startswith(("| ---", "![")):
            continue        # a rule; a picture, of which the page has its own
        elif line.startswith("|"):
            heads = state != "table"
            enter("table")
            out.append(cells(line, "th" if heads else "td"))
        elif line.startswith("- "):
            enter("ul")
            out.append(f"<li>{inline(line[2:])}")
        elif not line.strip():
            enter("")
        else:
            enter(state if state in ("ul", "p") else "p")
            out.append(inline(line))
    enter("")
    return "\n".join(part for part in out if part)


def svg(figure):
    into = io.StringIO()
    figure.savefig(into, format="svg")
    plots.pyplot.close(figure)
    text = into.getvalue()
    return text[text.index("<svg"):]


def page(host, rig):
    figures = Figures(host, rig)
    text = markdown.page(host, rig)
    pictures = "\n".join(f"<h3>{html.escape(title)}</h3>{svg(figure)}"
                         for title, figure in plots.all_figures(figures, host, rig))
    first, marker, rest = body(text).partition("<h2>What we lose")
    return (f"<!doctype html><html lang=en><meta charset=utf-8><title>ramferry benchmarks</title><style>{STYLE}</style>"
            f"{first}<h2>Pictures</h2>{pictures}{marker}{rest}</html>\n")
