"""How the documents become a site.  In: docs/, the package's docstrings.  Out: HTML.  Never: the network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import geofetch  # noqa: E402 - it may not be installed

project = "geofetch"
copyright = "the geofetch authors"
release = version = geofetch.__version__

extensions = ["sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"geofetch {release}"
exclude_patterns = ["_build"]
pygments_style = "friendly"
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# What the type checkers read as an alias, readers may read as one, too.
autodoc_type_aliases = {name: name for name in ("SpecLike", "SourceLike", "DigestLike", "Timeout", "OnError", "Sink")}


def _literal_blocks(lines: list[str]) -> Iterator[str]:
    """Our docstrings draw tables and trees by indentation: to reStructuredText they are literal blocks."""
    before = ""
    for blank, group in groupby(lines, key=lambda line: not line.strip()):
        block = list(group)
        drawn = not blank and all(line.startswith("    ") for line in block)
        if drawn and not before.startswith("    ") and not before.endswith("::"):
            yield from ("::", "")
        yield from block
        if not blank:
            before = block[-1]


def _drawn(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _literal_blocks(lines)


class Help(Directive):
    """``.. command:: units list``: what ``--help`` says of a command, asked when the site is built."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        import click

        from geofetch.cli.app import app

        context, found = click.Context(app, info_name="geofetch", max_content_width=100), app
        for name in self.arguments:
            found = found.commands[name]
            context = click.Context(found, info_name=name, parent=context, max_content_width=100)
        context.terminal_width = 100
        said = found.get_help(context)
        return [nodes.literal_block(said, said, language="text")]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _drawn)
    app.add_directive("command", Help)
