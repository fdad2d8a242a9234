"""Sphinx settings."""

from __future__ import annotations

import trocar

project = "trocar"
author = "The trocar founders"
copyright = "2026, The trocar founders"
release = version = trocar.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"trocar {version} - research use only"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
html_theme_options = {
    "announcement": trocar.NOTICE,
}
# Formulas are drawn by the reader's browser from the page's own text if MathJax is offline.
suppress_warnings = ["myst.xref_missing"]
