"""Find a chapter's notebook, read its parameters, and execute it."""

import ast
import contextlib
import difflib
import json
import logging
import os
import textwrap
import time
import warnings
from pathlib import Path

from bloodcells import paths
from bloodcells.errors import UserError

MODES = ("reduced", "workstation", "full")
"""Sizes that a chapter can be run in; the notebook's own values are the reduced ones."""

NOTEBOOKS = paths.ROOT / "notebooks"
"""Folder of the chapters."""

RUNS = paths.ROOT / "runs"
"""Where results go when no folder is given."""

# What a value is called in messages.
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list such as [1, 2]",
    dict: "a mapping such as {a: 1}",
}


class ChapterFailedError(RuntimeError):
    """A chapter stopped while its notebook was being executed.

    The message is one line: the chapter, the cell, the error, and the notebook to look at.

    Parameters
    ----------
    message : str
        The line for the user.
    cell : int or None
        Number of the failed cell in the chapter's notebook, the first cell is 1. None when no cell was
        reached.
    notebook : pathlib.Path or None
        The notebook as far as it got. None when nothing was written.
    """

    def __init__(self, message, *, cell, notebook):
        super().__init__(message)
        self.cell = cell
        self.notebook = notebook


def find(chapter, *, notebooks=None):
    """Return the notebook of a chapter.

    Parameters
    ----------
    chapter : str
        Chapter id, such as ``"05_nasser2025_wcsegnet"``, or the start of one, such as ``"05"``.
    notebooks : path-like, optional
        Folder of the chapters. Default: `NOTEBOOKS`.

    Returns
    -------
    pathlib.Path
        The notebook file.

    Raises
    ------
    UserError
        If no chapter, or more than one, starts so.
    """
    folder = NOTEBOOKS if notebooks is None else Path(notebooks)
    chapters = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if not chapters:
        raise UserError(f"There are no chapters in {folder}; run this from a checkout of the book.")
    if chapter in chapters:
        return chapters[chapter]
    matches = [name for name in chapters if chapter and name.startswith(chapter)]
    if len(matches) == 1:
        return chapters[matches[0]]
    what = "More than one chapter starts" if matches else "No chapter starts"
    raise UserError(f"{what} with {chapter!r}; choose from {', '.join(matches or chapters)}.")


def parameters(path):
    """Read the parameters of a chapter and their default values.

    The cell is parsed, not executed. papermill's own reader works line by line and drops a value that
    holds ``=`` or ``#``, so it is not used here.

    Parameters
    ----------
    path : path-like
        The notebook.

    Returns
    -------
    dict of str to object
        Name to default value, in the order of the cell.

    Raises
    ------
    UserError
        If the file is not a notebook, or has not exactly one ``parameters`` cell of plain literals.
    """
    path = Path(path)
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = [
            "".join(cell["source"])
            for cell in cells
            if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", [])
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"Expected a notebook (.ipynb, format 4), could not read {path}: {error!r}."
        ) from error
    if len(sources) != 1:
        raise UserError(f"Expected one code cell tagged 'parameters' in {path}, found {len(sources)}.")
    found = {}
    try:
        for statement in ast.parse(sources[0]).body:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            (target,) = targets
            found[target.id] = ast.literal_eval(statement.value)
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"Expected only lines `name = literal` in the parameters cell of {path}, got {sources[0]!r}."
        ) from error
    return found


def parameters_file(path, mode):
    """Return the file with a chapter's values for a mode.

    Parameters
    ----------
    path : path-like
        The notebook.
    mode : {"workstation", "full"}
        The mode.

    Returns
    -------
    pathlib.Path
        ``params/<chapter>.<mode>.yml`` beside the notebook; it need not be there.
    """
    path = Path(path)
    return path.parent / "params" / f"{path.stem}.{mode}.yml"


def parse_value(text, default):
    """Turn the text of a parameter, as typed on a command line, into a value.

    Parameters
    ----------
    text : str
        A YAML literal: ``3``, ``0.5``, ``true``, ``[unet, segnet]``. Where the default is text it is
        taken as it stands, so that ``no`` stays ``"no"``.
    default : object
        The parameter's default value.

    Returns
    -------
    object
        The value.

    Raises
    ------
    UserError
        If the text is not YAML.

    Examples
    --------
    >>> parse_value("[unet, segnet]", default=[])
    ['unet', 'segnet']
    >>> parse_value("no", default="auto")
    'no'
    """
    from bloodcells.plain_yaml import load_yaml

    try:
        value = load_yaml(text)
    except ValueError as error:
        shown = textwrap.shorten(text, width=100, placeholder=" ...")
        raise UserError(f"Expected a value in YAML, such as 3, 0.5 or [a, b], got {shown!r}.") from error
    return text if isinstance(default, str) and not isinstance(value, str) else value


def choose_parameters(path, *, mode="reduced", parameters=None):
    """Work out what a run changes in the parameters of a chapter, and check it.

    Parameters
    ----------
    path : path-like
        The notebook.
    mode : {"reduced", "workstation", "full"}, default "reduced"
        ``"reduced"`` takes the notebook's own values, the others those of `parameters_file`.
    parameters : dict of str to object, optional
        Values that win over those of the mode.

    Returns
    -------
    dict of str to object
        Name to value, ``mode`` included, ``output_dir`` not.

    Raises
    ------
    UserError
        If the mode is unknown or has no file, a name is not a parameter of the chapter, or a value is not
        of its default's type.
    """
    path = Path(path)
    if mode not in MODES:
        raise UserError(f"Expected a mode out of {', '.join(MODES)}, got {mode!r}.")
    defaults = _read_defaults(path)
    explicit = dict(parameters or {})
    for name, instead in (("mode", "the mode (--mode)"), ("output_dir", "the output folder (--out)")):
        if name in explicit:
            raise UserError(f"Parameter {name!r} can't be given on its own; give {instead} instead.")
    chosen = {} if mode == "reduced" else _read_parameters_file(path, mode)
    chosen.pop("mode", None)
    chosen.update(explicit)
    checked = {name: _check(path, name, value, defaults) for name, value in chosen.items()}
    return {"mode": mode, **checked}


def run(chapter, *, mode="reduced", parameters=None, output_dir=None, progress=True, notebooks=None):
    """Execute a chapter in a fresh kernel of this interpreter.

    Everything is checked before the kernel starts. The kernel works in the root of the checkout.

    Parameters
    ----------
    chapter : str
        Chapter id or the start of one, see `find`.
    mode : {"reduced", "workstation", "full"}, default "reduced"
        Sizes to run with, see `choose_parameters`.
    parameters : dict of str to object, optional
        Values that win over those of the mode.
    output_dir : path-like, optional
        Folder for the results, made if needed. Its absolute path is the notebook's parameter
        ``output_dir``. Default: `RUNS`.
    progress : bool, default True
        Show a progress bar on standard error.
    notebooks : path-like, optional
        Folder of the chapters. Default: `NOTEBOOKS`.

    Returns
    -------
    pathlib.Path
        The executed notebook, ``<output_dir>/<chapter>/<mode>/<chapter>.ipynb``. It is replaced only by a
        run that succeeded.

    Raises
    ------
    UserError
        If the chapter, the mode, a parameter or the folder is wrong, or the disk is full.
    ChapterFailedError
        If the notebook raised an error or its kernel died. The notebook as far as it got is
        ``<chapter>.failed.ipynb`` in the same folder.
    """
    import filelock

    source = find(chapter, notebooks=notebooks)
    chosen = choose_parameters(source, mode=mode, parameters=parameters)
    root = RUNS if output_dir is None else Path(output_dir).absolute()
    folder = root / source.stem / mode
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"Another run is writing to {folder}; wait for it, or give another output folder (--out)."
        ) from None
    except OSError as error:
        raise UserError(
            f"Expected an output folder that can be written to (--out), got {root}: {error.strerror}."
        ) from error
    with held:
        try:
            return _execute(source, {**chosen, "output_dir": str(root)}, folder, progress=progress)
        except OSError as error:
            raise UserError(
                f"Can't write to {folder} ({error.strerror or error}); make room, or give another output "
                "folder (--out)."
            ) from error


def _read_defaults(path):
    """Return the parameters of a chapter, which has at least those that every run sets."""
    defaults = parameters(path)
    missing = [name for name in ("mode", "output_dir") if name not in defaults]
    if missing:
        raise UserError(f"Expected the parameters 'mode' and 'output_dir' in {path}, {missing} not there.")
    return defaults


def _read_parameters_file(path, mode):
    """Return the content of `parameters_file`, checked to be a mapping for this mode."""
    from bloodcells.plain_yaml import load_yaml

    file = parameters_file(path, mode)
    try:
        values = load_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"Chapter {path.stem} has no {mode} mode: there is no file {file}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"Expected a YAML mapping in {file}, could not read it: {error}.") from error
    if not isinstance(values, dict) or values.get("mode") != mode:
        raise UserError(f"Expected a YAML mapping with the line 'mode: {mode}' in {file}.")
    return values


def _check(path, name, value, defaults):
    """Return a parameter's value in its default's type, or raise."""
    if name not in defaults:
        close = difflib.get_close_matches(str(name), defaults, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(
            f"Chapter {path.stem} has no parameter {name!r}.{hint} Its parameters are {', '.join(defaults)}."
        )
    try:
        return _convert(value, defaults[name])
    except TypeError as error:
        raise UserError(
            f"Parameter {name!r} of chapter {path.stem}: expected {error}, as in its default"
            f" {defaults[name]!r}, got {value!r}."
        ) from None


def _convert(value, default):
    """Return `value` in the type of `default`; raise TypeError with the name of the type expected."""
    if default is None:
        return _convert_plain(value)
    # The notebook gets what papermill writes down, and that has no tuples.
    kind = list if isinstance(default, tuple) else type(default)
    if kind is float and not isinstance(value, bool) and isinstance(value, int | float | str):
        # YAML 1.1 reads 1e-3 as text (it wants 1.0e-3).
        with contextlib.suppress(ValueError):
            return float(value)
    if kind is list and isinstance(value, list | tuple):
        # A list of one kind stays one; of mixed kinds anything plain will do.
        one_kind = default and len({type(item) for item in default}) == 1
        return [_convert(item, default[0] if one_kind else None) for item in value]
    if kind is dict and type(value) is dict:
        return _convert_plain(value)
    # `type` and not `isinstance`: true is no whole number.
    if type(value) is not kind or kind is float:
        raise TypeError(_KINDS.get(kind, kind.__name__))
    return value


def _convert_plain(value):
    """Return a value of plain literals, tuples as lists; raise TypeError for anything else."""
    if isinstance(value, list | tuple):
        return [_convert_plain(item) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _convert_plain(item) for key, item in value.items()}
    # papermill would write any other object down as text.
    if value is not None and type(value) not in (bool, int, float, str):
        raise TypeError("a plain value (number, text, true, false, list or mapping)")
    return value


_START_TIMEOUT = 120  # seconds that a kernel may take to answer for the first time


def _execute(source, values, folder, *, progress):
    """Execute the notebook `source` with `values` and return the path of the result in `folder`."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    final, partial, failed = (
        folder / f"{source.stem}{suffix}" for suffix in (".ipynb", ".partial.ipynb", ".failed.ipynb")
    )
    partial.unlink(missing_ok=True)
    log = folder / "kernel.log"

    def fail(what):
        cell = _count_started(partial)
        kept = None
        if partial.exists():
            os.replace(partial, failed)
            kept = failed
        place = "before its first cell" if cell is None else f"in cell {cell}"
        look = "" if kept is None else f" The notebook as far as it got: {kept}"
        return ChapterFailedError(f"{source.stem} failed {place}: {what}.{look}", cell=cell, notebook=kept)

    def execute():
        with _quiet():
            return papermill.execute_notebook(
                _escape(source),
                _escape(partial),
                parameters=values,
                kernel_name="python3",
                language="python",
                kernel_manager_class=_kernel_manager_class(log),
                progress_bar={"desc": source.stem} if progress else False,
                start_timeout=_START_TIMEOUT,
                cwd=paths.ROOT,
            )

    try:
        notebook = _bear_clock_jumps(execute)
    except papermill.PapermillExecutionError as error:
        raise fail(_shorten(f"{error.ename}: {error.evalue}")) from None
    except DeadKernelError:
        raise fail(
            "its kernel died (often the memory was not enough; try smaller sizes); "
            f"its last words are in {log}"
        ) from None
    except RuntimeError as error:
        # A kernel that can't be started raises this, with the reason in its message.
        raise fail(_shorten(f"its kernel did not answer: {error}")) from error
    except OSError as error:
        if error.filename is None or Path(error.filename).is_relative_to(folder):
            raise  # of a full disk, say
        raise fail(_shorten(f"{type(error).__name__}: {error}")) from error
    except BaseException:
        if partial.exists():
            os.replace(partial, failed)
        raise
    if notebook.metadata.papermill.get("exception"):
        # papermill takes `exit()` in a cell for success, though the cells after it never ran.
        raise fail("SystemExit: the cell ended the kernel")
    notebook.metadata.papermill["output_path"] = str(final)
    nbformat.write(notebook, partial)
    os.replace(partial, final)
    # An earlier failure next to a success would only mislead.
    failed.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    return final


def _bear_clock_jumps(execute):
    """Start again where a kernel seems not to answer, but has not had its time.

    Jupyter measures its patience by the clock of the machine, which may be set meanwhile.
    """
    start = time.monotonic()
    while True:
        try:
            return execute()
        except RuntimeError as error:
            was_waiting = str(error).startswith("Kernel didn't respond")
            if not was_waiting or time.monotonic() - start >= _START_TIMEOUT:
                raise


def _escape(path):
    """Return a path as text that papermill's `str.format` turns back into the path."""
    return str(path.absolute()).replace("{", "{{").replace("}", "}}")


def _shorten(message):
    return textwrap.shorten(message, width=300, placeholder=" ...").rstrip(".")


def _count_started(notebook):
    """Return the number of the last cell that was started, counted in the chapter's own notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return None
    # Cells that papermill put in are not in the chapter.
    added = {"injected-parameters", "papermill-error-cell-tag"}
    own = [cell["metadata"] for cell in cells if not added & set(cell["metadata"].get("tags", []))]
    started = [n for n, data in enumerate(own, start=1) if data.get("papermill", {}).get("start_time")]
    return started[-1] if started else None


def _kernel_manager_class(log):
    """Return a kernel manager that always starts the running interpreter, with its messages in `log`.

    A kernel spec named "python3" in the user's own Jupyter folder would win over the environment's, and may
    belong to another Python.
    """
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    spec = KernelSpec(
        resource_dir=RESOURCES,
        # TensorFlow greets on standard error, which would land in the cell that imports it.
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
        # The kernel's own log would break into the progress bar; what matters in it is raised here as well.
        **get_kernel_dict(extra_arguments=["--IPKernelApp.log_level=CRITICAL"]),
    )

    class NativeKernelManager(AsyncKernelManager):
        kernel_spec = spec

        async def _async_launch_kernel(self, kernel_cmd, **options):
            # Libraries that write to the terminal themselves would break into the progress bar.
            with log.open("wb") as stream:
                await super()._async_launch_kernel(kernel_cmd, **options, stderr=stream)

    return NativeKernelManager


@contextlib.contextmanager
def _quiet():
    """Keep the warnings and the log of papermill and Jupyter from the user; errors are raised."""
    logger = logging.getLogger("papermill")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
