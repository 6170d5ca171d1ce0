"""How the page looks: one column, readable on a screen and on a phone."""

import html

_CSS = """
:root { color-scheme: light; --ink: #1f2937; --quiet: #6b7280;
  --line: #e5e7eb; --accent: #2563a8; --paper: #fff; --tile: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 60rem;
  color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0;
  overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
.quiet, figcaption { color: var(--quiet); font-size: .875rem;
  margin: .25rem 0; }
.tiles { display: grid; gap: .75rem; margin-top: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.tile { background: var(--tile); border-radius: .5rem; padding: .75rem 1rem;
  color: var(--quiet); font-size: .875rem; }
.tile b { display: block; color: var(--ink); font-size: 1.5rem;
  font-variant-numeric: tabular-nums; }
.pair { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
img { display: block; max-width: 100%; height: auto; }
.pair img { width: 100%; }
.matrix { margin-top: 1.5rem; max-width: min(100%, 40rem); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem;
  font-variant-numeric: tabular-nums; }
th { color: var(--quiet); font-weight: 500; font-size: .875rem; }
th, td { text-align: right; padding: .375rem .5rem; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:not(:first-child) { width: 17%; }
td s { display: block; height: 3px; margin: 2px 0 0 auto;
  background: var(--accent); text-decoration: none; }
td i { display: inline-block; width: 1em; height: 1em; margin-right: .5em;
  vertical-align: -.125em; border: 1px solid rgb(0 0 0 / .2);
  border-radius: .2em; }
.warning { margin: .5rem 0; padding: .5rem .75rem; font-size: .9375rem;
  background: #fdf3e1; border-left: 3px solid #c2571a; }
.finding { margin: .75rem 0; padding: .5rem 1rem .75rem;
  background: var(--tile); border-left: 3px solid var(--quiet); }
.finding p { margin: .25rem 0; overflow-wrap: anywhere; }
.finding.error { border-color: #b42318; background: #fdecea; }
.finding.warning { border-color: #c2571a; background: #fdf3e1; }
.thumbs { display: grid; gap: .75rem; margin-top: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.thumbs figure { margin: 0; }
.thumbs figcaption { overflow-wrap: anywhere; font-size: .75rem; }
.histogram { display: block; width: 100%; height: 7rem; margin-top: 1.5rem;
  background: var(--tile); }
.histogram polygon { fill: var(--accent); }
figure { margin: 0 0 1.25rem; }
figure img { width: 100%; }
pre { overflow-x: auto; background: var(--tile); border-radius: .5rem;
  padding: 1rem; font-size: .8125rem; }
summary { cursor: pointer; color: var(--accent); }
"""


def document(*, title: str, body: str) -> str:
  """Returns a complete HTML document.

  Args:
    title: plain text; escaped here.
    body: HTML.

  Returns:
    HTML without any reference to another file.
  """
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{html.escape(title)}</title><style>{_CSS}</style></head>"
    f"<body>{body}</body></html>\n"
  )
