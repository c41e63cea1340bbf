"""What a chapter depends on, found by reading it: nothing is imported or executed here."""

import ast
import hashlib
import json
from pathlib import Path

import yaml

PACKAGE = "bloodcells"


def toc_notebooks(root):
    """List the chapters of the book, in the order of the table of contents.

    Parameters
    ----------
    root : pathlib.Path
        The checkout, with ``_toc.yml`` and ``notebooks/``.

    Returns
    -------
    dict of str to pathlib.Path
        Chapter id to notebook.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    pages = [entry["file"] for part in toc.get("parts", []) for entry in part.get("chapters", [])]
    notebooks = [root / f"{page}.ipynb" for page in pages if page.startswith("notebooks/")]
    missing = [path.name for path in notebooks if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"_toc.yml names notebooks that are not there: {', '.join(missing)}")
    return {path.stem: path for path in notebooks}


def digest_files(paths, root):
    """Hash what files are called and hold.

    Parameters
    ----------
    paths : iterable of path-like
        Relative to `root`; each counts once, in whatever order.
    root : pathlib.Path

    Returns
    -------
    str
        Hexadecimal digits. As a parameter of a job it tells what dates don't: Snakemake looks into a file
        only if it seems to be newer than what was made of it, and clocks are set.
    """
    digest = hashlib.sha256()
    for path in sorted({Path(path).as_posix() for path in paths}):
        digest.update(path.encode() + b"\0" + (root / path).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def notebook_code(notebook):
    """Return the Python code of a notebook, without the lines that only IPython knows.

    Parameters
    ----------
    notebook : pathlib.Path
        An ``.ipynb`` file.

    Returns
    -------
    str
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = "\n".join(sources).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def imported_names(code, module=PACKAGE, is_package=True):
    """Find the names under the package that a piece of code imports, at any depth of nesting.

    Parameters
    ----------
    code : str
        Python source.
    module : str
        Dotted name of the module the code belongs to; relative imports start from it.
    is_package : bool
        True where that module is an ``__init__.py``.

    Returns
    -------
    set of str
        Dotted names. An imported name may be a module or something inside one.

    Examples
    --------
    >>> sorted(imported_names("import numpy; from bloodcells import plots, results"))
    ['bloodcells', 'bloodcells.plots', 'bloodcells.results']
    """
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                up = node.level - 1 if is_package else node.level
                base = ".".join(parts[: len(parts) - up] + ([base] if base else []))
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return {name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")}


def _files_of(name, source_dir):
    """Yield (module name, file) of a dotted name and of the packages around it."""
    parts = name.split(".")
    for stop in range(1, len(parts) + 1):
        stem = source_dir.joinpath(*parts[:stop])
        for path in (stem / "__init__.py", stem.with_suffix(".py")):
            if path.is_file():
                yield ".".join(parts[:stop]), path


def package_modules(code, source_dir):
    """Find every module of the package that a piece of code needs, directly or through others.

    Parameters
    ----------
    code : str
        Python source, for example that of a notebook.
    source_dir : pathlib.Path
        The folder that holds the package.

    Returns
    -------
    dict of str to pathlib.Path
        Dotted module name to file, sorted by name.
    """
    found = {}
    waiting = imported_names(code)
    while waiting:
        for name, path in _files_of(waiting.pop(), source_dir):
            if name not in found:
                found[name] = path
                text = path.read_text(encoding="utf-8")
                waiting |= imported_names(text, name, path.name == "__init__.py")
    return dict(sorted(found.items()))


def named_datasets(code, names):
    """Find which datasets a chapter uses: those it names in a string.

    A chapter that names none uses all, unless it names "synthetic": then it is about drawn smears.

    Parameters
    ----------
    code : str
        Python source of the chapter.
    names : iterable of str
        The datasets there are.

    Returns
    -------
    list of str
    """
    names = sorted(names)
    strings = {
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = [name for name in names if name in strings]
    return named if named or "synthetic" in strings else names


def chapter_datasets(notebook, root):
    """List the real datasets a chapter reads.

    Parameters
    ----------
    notebook : pathlib.Path
        The chapter.
    root : pathlib.Path
        The checkout.

    Returns
    -------
    list of str
        Empty when the chapter does not import `bloodcells.datasets`.
    """
    code = notebook_code(notebook)
    if f"{PACKAGE}.datasets" not in package_modules(code, root / "src"):
        return []
    return named_datasets(code, [path.stem for path in (root / "data" / "registry").glob("*.csv")])


def chapter_inputs(notebook, root):
    """List the files whose change makes a chapter stale, the notebook itself left out.

    Parameters
    ----------
    notebook : pathlib.Path
        The chapter.
    root : pathlib.Path
        The checkout.

    Returns
    -------
    list of str
        Paths relative to `root`, sorted. ``_build/data/<name>.txt`` says whether a dataset could be had.
    """
    runner = f"from {PACKAGE} import chapters\n"
    modules = package_modules(runner + notebook_code(notebook), root / "src")
    needs = [root / "requirements.txt", *modules.values()]
    datasets = chapter_datasets(notebook, root)
    if datasets:
        needs.append(root / "data" / "registry.yml")
    for name in datasets:
        needs.append(root / "data" / "registry" / f"{name}.csv")
        for folder in ("splits", "counts"):
            needs += (root / "data" / folder).glob(f"{name}*.csv")
        needs.append(root / "_build" / "data" / f"{name}.txt")
    if f"{PACKAGE}.networks" in modules:
        needs += (root / "src" / PACKAGE / "weights").glob("*.*")
    for module, file in {"claims": "claims.yml", "related_work": "related_work.csv"}.items():
        if f"{PACKAGE}.{module}" in modules:
            needs.append(root / "book" / file)
    if f"{PACKAGE}.results" in modules:
        # A record in the folder of another chapter is none of this one's business.
        others = {path.stem for path in notebook.parent.glob("*.ipynb")} - {notebook.stem}
        records = root / "book" / "results"
        needs += [
            path
            for path in records.rglob("*")
            if path.is_file() and path.relative_to(records).parts[0] not in others
        ]
    return sorted({path.relative_to(root).as_posix() for path in needs})
