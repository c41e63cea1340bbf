"""Sphinx extension: mend what the theme and its companions write into every page."""

import base64
import html
import re
from pathlib import Path

from docutils import nodes
from PIL import Image

# The icon stands in the page: a request for it, or for /favicon.ico without one, would be cut off half the
# time, when the browser is sent on.
REDIRECT = """\
<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={page}">
<link rel="icon" href="{icon}">
<title>{title}</title>
</head>
<body><p><a href="{page}">{title}</a></p></body>
</html>
"""

# Pixels of a figure for one of the page, so that it is sharp on screens of high density.
DENSITY = 2
# Pixels of the page: more than twice the width of a phone, at which a figure's words can't be read any more.
WIDE = 900


def size_figures(app, doctree, docname):
    """Give chapters' figures their width, or, where they fill the column, the class "wide".

    Wide ones scroll on a phone, see book.css.

    Parameters
    ----------
    app : sphinx.application.Sphinx
    doctree : docutils.nodes.document
        Changed in place.
    docname : str
    """
    if not docname.startswith("notebooks/"):
        return
    for figure in doctree.findall(nodes.figure):
        for image in figure.findall(nodes.image):
            path = Path(app.srcdir, image["uri"])
            if path.suffix.lower() in (".png", ".jpg", ".jpeg") and path.is_file():
                with Image.open(path) as opened:
                    width = opened.width // DENSITY
                if width >= WIDE:
                    figure["classes"].append("wide")
                else:
                    image["width"] = f"{width}px"


def mend_page(app, pagename, templatename, context, doctree):
    """Drop scripts the book does not use and a role that promises what is not there; let figures be focused.

    Parameters
    ----------
    app : sphinx.application.Sphinx
    pagename, templatename : str
    context : dict
        What the page is made from; changed in place.
    doctree : docutils.nodes.document or None
    """
    # Thebe comes with Jupyter Book. Declared twice, it is an error in the browser, and it is not used here.
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(getattr(script, "filename", script))
        and "THEBE_JS_URL" not in getattr(script, "attributes", {}).get("body", "")
    ]
    # The entries of the bibliography are no list items, so their box must not say that it is a list.
    if "body" in context:
        body = context["body"].replace('<div role="list" class="citation-list">', "<div>")
        # What scrolls must be reachable by keyboard.
        context["body"] = re.sub(r'<figure (?=class="[^"]*\bwide\b)', '<figure tabindex="0" ', body)


def write_redirect(app, exception):
    """Write the index, which leads to the first page, as a whole page with the book's title and icon.

    Parameters
    ----------
    app : sphinx.application.Sphinx
    exception : Exception or None
        What stopped the build.
    """
    if exception is None and app.builder.name == "html":
        icon = Path(app.outdir, app.config.html_favicon).read_bytes()
        values = {
            "language": app.config.language,
            "page": app.builder.get_target_uri(app.config.root_doc),
            "icon": f"data:image/svg+xml;base64,{base64.b64encode(icon).decode()}",
            "title": app.config.html_title,
        }
        text = REDIRECT.format(**{name: html.escape(value) for name, value in values.items()})
        Path(app.outdir, "index.html").write_text(text, encoding="utf-8")


def setup(app):
    """Register with Sphinx.

    Parameters
    ----------
    app : sphinx.application.Sphinx

    Returns
    -------
    dict
        What Sphinx wants to know about an extension.
    """
    app.connect("doctree-resolved", size_figures)
    app.connect("html-page-context", mend_page, priority=900)
    # Before the table of contents writes an index of its own.
    app.connect("build-finished", write_redirect, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
