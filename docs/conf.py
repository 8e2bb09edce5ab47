"""How ``make docs`` turns these pages into HTML."""

from __future__ import annotations

import crucible

project = "Crucible"
author = "the Crucible maintainers"
version = release = crucible.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"Crucible {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Annotations name types that are imported for type checkers only.
suppress_warnings = ["sphinx_autodoc_typehints", "autodoc.import_object"]
