"""Draws plain values: graphs and timelines as text, mermaid, SVG and a page.

Imports nothing of dagexec but `_errors`: whoever draws a run makes these values of it. Read `graph`
and `chart` first, they are the data; `diagram` and `timeline` are the same with all their forms.
`layout` places nodes, `svg` has colours and the card, `notebook` follows a run in a kernel.
"""
