"""How Sphinx makes the documentation: `nox -s docs`."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "trio_extreme"
author = "The trio_extreme authors"
release = version = version_of("trio-extreme")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx"]
# A part of a page.
exclude_patterns = ["benchmarks/figures.md"]
html_theme = "furo"
html_title = f"{project} {release}"

myst_heading_anchors = 3
# What docstrings put between single backticks is code, as in Markdown, which the pages are written in.
default_role = "code"

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
