"""Sphinx builds docs/ as a site: make docs. The source is the whole checkout, so that links to tables resolve."""

project = "Pregão"
author = "the contributors of Pregão"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = project
html_copy_source = False
root_doc = "docs/index"
include_patterns = ["docs/*.md", "benchmarks/*.md"]
exclude_patterns = ["docs/pictures"]
myst_heading_anchors = 3

napoleon_use_ivar = True
napoleon_attr_annotations = False  # shapes such as "*batch" are not reStructuredText
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_class_signature = "mixed"
