"""The documentation as a site: `make docs`."""

from pathlib import Path

project = "AgeZero"
release = Path("../src/agezero/__init__.py").read_text().split('__version__ = "')[1].split('"')[0] if Path("../src").is_dir() else ""
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
html_theme = "furo"
html_title = "AgeZero"
html_show_copyright = False
html_copy_source = False
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
nitpicky = True
# A page may show a part of a language that its lexer does not take.
suppress_warnings = ["misc.highlighting_failure"]
