"""Sphinx extension: mend what the theme and its companions write into every page."""


def mend_page(app, pagename, templatename, context, doctree):
    """Drop scripts the book does not use and a role that promises what is not there.

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
        context["body"] = context["body"].replace('<div role="list" class="citation-list">', "<div>")


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
    app.connect("html-page-context", mend_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
