"""The contract that every chapter keeps, read from its JSON without a kernel.

A rule is a function that takes a notebook and returns a list of problems, one line each. The rules themselves
are tested below on small notebooks that break them.
"""

import ast
import copy
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from bloodcells import chapters

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETER_FILES = sorted((ROOT / "notebooks" / "params").glob("*"))

# Modes differ in sizes only.
REDUCIBLE = {
    *("mode", "dataset", "arms", "epochs", "steps_per_epoch", "n_train", "n_val", "n_test"),
    *("image_size", "base_filters", "n_seeds"),
    *("epochs_wbc", "epochs_plt", "segnet_filters"),  # of networks beside the main one of a chapter
    "pretraining_epochs",
    *("n_levels", "n_fields"),  # of chapter 6
}
SECTIONS = [
    "What the paper claims",
    "Set-up",
    "Data",
    "A check on drawn cells",
    "Method",
    "Training",
    "Evaluation",
    "Against the paper",
    "Deviations and limits",
    "Exercises",
]
# Chapters of the book's own, from 6 on, have no paper to stand against.
OWN_SECTIONS = ["The question", "Set-up", "Data", "Method", "Results", "Limits", "Exercises"]
# Before the parameters come the claims (a table, a check of it) and the imports.
MAX_PARAMETERS_PLACE = 4
MAX_CELL_LINES = 40
MAX_CODE_LINES = 500
MAX_FUNCTIONS = 3
MAX_FUNCTION_LINES = 15
MIN_WORDS_PER_LINE = 2
MAX_BYTES = 1_000_000
FORBIDDEN = {
    "np.random.seed": "pass a generator, `np.random.default_rng(seed)`",
    "sys.path": "import from the installed package",
    "os.environ": "take a parameter",
    "pip install": "add it to requirements.in",
    "/home/": "use a path below the checkout",
}
# A path from the root of the disk or of a home folder, after a quote, a space or the like.
ABSOLUTE_PATH = re.compile(r"""(?:^|[\s"'(=])((?:~|/[A-Za-z_][\w.-]*)/[\w.-]+)""", re.MULTILINE)


# Reading.


def read(path):
    """Read a notebook as it is: `nbformat.read` would mend what it can."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(nb):
    """Return pairs of cell number, the first cell is 1, and code cell."""
    return [(n, cell) for n, cell in enumerate(nb.cells, start=1) if cell.cell_type == "code"]


def is_magic(line):
    return line.lstrip().startswith(("!", "%"))


def parse(cell):
    """Parse a code cell without its magics, which are another rule's matter."""
    return ast.parse("\n".join("" if is_magic(line) else line for line in cell.source.splitlines()))


def functions(cell):
    return [
        node for node in ast.walk(parse(cell)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def draws_figure(cell):
    """Say whether a cell is tagged so, or calls something of `plots` or `plt` other than settings."""
    if "figure" in tags(cell):
        return True
    for node in ast.walk(parse(cell)):
        if isinstance(node, ast.Call):
            words = ast.unparse(node.func).split(".")
            if (
                len(words) > 1
                and words[0] in ("plots", "plt")
                and words[1] not in ("rcParams", "style", "use_book_style")
            ):
                return True
    return False


def figure_metadata(cell):
    mystnb = cell.metadata.get("mystnb", {})
    figure = mystnb.get("figure", {})
    return figure.get("caption"), figure.get("name"), mystnb.get("image", {}).get("alt")


def output_texts(cell):
    for output in cell.outputs:
        for text in (output.get("text", ""), *output.get("data", {}).values()):
            yield str(text)


def parameter_values(nb):
    """Return name to default value; empty when `check_parameters` has more to say."""
    values = {}
    for _, cell in code_cells(nb):
        if "parameters" in tags(cell):
            for node in parse(cell).body:
                values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


# Rules for one notebook.


def check_format(nb):
    if (nb.nbformat, nb.nbformat_minor) < (4, 5):
        return [f"notebook format {nb.nbformat}.{nb.nbformat_minor}, expected 4.5 or newer"]
    ids = Counter(cell.get("id") for cell in nb.cells)
    problems = [f"{n} cells with the id {name!r}" for name, n in ids.items() if n > 1 or not name]
    kernel = nb.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        problems.append(f"kernel {kernel!r}, expected 'python3'")
    if not problems:
        try:
            nbformat.validate(nb)
        except nbformat.ValidationError as error:
            problems.append(f"not valid: {error.message}")
    return problems


def check_code_parses(nb):
    problems = []
    for n, cell in code_cells(nb):
        try:
            parse(cell)
        except SyntaxError as error:
            problems.append(f"cell {n}: {error.msg}")
    return problems


def check_parameters(nb):
    tagged = [
        (place, n, cell)
        for place, (n, cell) in enumerate(code_cells(nb), start=1)
        if "parameters" in tags(cell)
    ]
    if len(tagged) != 1 or any("parameters" in tags(cell) for cell in nb.cells if cell.cell_type != "code"):
        return [f"{len(tagged)} code cells tagged 'parameters', expected one"]
    ((place, n, cell),) = tagged
    problems = []
    if place > MAX_PARAMETERS_PLACE:
        problems.append(f"cell {n}: the parameters are code cell {place}, at most {MAX_PARAMETERS_PLACE}")
    tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    for node in parse(cell).body:
        line = ast.get_source_segment(cell.source, node)
        try:
            (target,) = node.targets
            target.id  # noqa: B018
            ast.literal_eval(node.value)
        except (AttributeError, ValueError):
            problems.append(f"cell {n}: expected `name = literal`, found `{line}`")
        if node.end_lineno not in commented:
            problems.append(f"cell {n}: no comment behind `{line}`")
        if cell.source.splitlines()[node.lineno - 1].count("=") > 1:
            problems.append(f"cell {n}: papermill drops a line with two `=`: `{line}`")
    if not problems:
        values = parameter_values(nb)
        problems += [f"no parameter {name!r}" for name in ("mode", "output_dir") if name not in values]
        if values.get("mode", "reduced") != "reduced":
            problems.append(f"the notebook holds the values of mode {values['mode']!r}, expected 'reduced'")
    return problems


def check_lengths(nb):
    lengths = {n: len(cell.source.splitlines()) for n, cell in code_cells(nb)}
    problems = [
        f"cell {n}: {length} lines, at most {MAX_CELL_LINES}"
        for n, length in lengths.items()
        if length > MAX_CELL_LINES
    ]
    if sum(lengths.values()) > MAX_CODE_LINES:
        problems.append(f"{sum(lengths.values())} lines of code, at most {MAX_CODE_LINES}")
    return problems


def check_functions(nb):
    found = [(n, function) for n, cell in code_cells(nb) for function in functions(cell)]
    problems = [
        f"cell {n}: `{function.name}` has {length} lines, at most {MAX_FUNCTION_LINES}"
        for n, function in found
        if (length := function.end_lineno - function.lineno + 1) > MAX_FUNCTION_LINES
    ]
    if len(found) > MAX_FUNCTIONS:
        problems.append(f"{len(found)} functions, at most {MAX_FUNCTIONS}: move some to the package")
    return problems


def check_magics(nb):
    return [
        f"cell {n}: `{line}`"
        for n, cell in code_cells(nb)
        for line in cell.source.splitlines()
        if is_magic(line) and line.split()[0] != "%matplotlib"
    ]


def check_forbidden(nb):
    problems = []
    for n, cell in code_cells(nb):
        problems += [f"cell {n}: {text}; {cure}" for text, cure in FORBIDDEN.items() if text in cell.source]
        for text in (cell.source, *output_texts(cell)):
            problems += [f"cell {n}: absolute path {found}" for found in ABSOLUTE_PATH.findall(text)]
    return problems


def check_figures(nb):
    problems = []
    for n, cell in code_cells(nb):
        if not draws_figure(cell):
            continue
        for what, text in zip(("caption", "name", "alt text"), figure_metadata(cell), strict=True):
            if not (isinstance(text, str) and text.strip()):
                problems.append(f"cell {n}: the figure has no {what}")
            elif what == "alt text" and re.match(r"\W*((an?|the) )?(image|figure) of\b", text, re.IGNORECASE):
                problems.append(
                    f"cell {n}: alt text says what kind of thing it is, not what it shows: {text!r}"
                )
    names = Counter(figure_metadata(cell)[1] for _, cell in code_cells(nb))
    return problems + [
        f"{times} figures named {name!r}" for name, times in names.items() if name and times > 1
    ]


def check_sections(nb):
    problems = []
    if not nb.cells or nb.cells[0].cell_type != "markdown" or not nb.cells[0].source.startswith("# "):
        problems.append("cell 1 does not start with the title, `# ...`")
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    # A `#` inside a fenced block is a comment.
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^## +(.*?) *$", text, flags=re.MULTILINE)
    expected = OWN_SECTIONS if found[:1] == OWN_SECTIONS[:1] else SECTIONS
    if found != expected:
        problems.append(f"sections {found}, expected {expected}")
    return problems


def check_outputs(nb):
    problems = []
    for n, cell in code_cells(nb):
        if any(output.output_type == "error" for output in cell.outputs):
            problems.append(f"cell {n}: a stored error")
        if "nbval-check-output" in tags(cell):
            # nbval skips a cell without a count, so it would check nothing.
            if not cell.outputs or cell.execution_count is None:
                problems.append(f"cell {n}: 'nbval-check-output' without a stored output and count")
        elif cell.outputs or cell.execution_count is not None:
            problems.append(f"cell {n}: a stored output or count without 'nbval-check-output'")
    return problems


def check_prose(nb):
    words = sum(len(cell.source.split()) for cell in nb.cells if cell.cell_type == "markdown")
    lines = sum(bool(line.strip()) for _, cell in code_cells(nb) for line in cell.source.splitlines())
    if words < MIN_WORDS_PER_LINE * lines:
        return [f"{words} words of prose for {lines} lines of code, expected {MIN_WORDS_PER_LINE} a line"]
    return []


RULES = [
    check_format,
    check_code_parses,
    check_parameters,
    check_lengths,
    check_functions,
    check_magics,
    check_forbidden,
    check_figures,
    check_sections,
    check_outputs,
    check_prose,
]


# Rules that need more than one notebook.


def check_contents(nb_name, toc):
    """`toc` is the parsed _toc.yml."""
    return [] if f"notebooks/{nb_name}" in toc_files(toc) else [f"notebooks/{nb_name} is not in _toc.yml"]


def toc_files(entry):
    """Return the files of an entry of the contents and of all entries below it."""
    if isinstance(entry, list):
        return [file for item in entry for file in toc_files(item)]
    if isinstance(entry, dict):
        return [
            file for key, item in entry.items() for file in ([item] if key == "file" else toc_files(item))
        ]
    return []


def check_parameter_file(nb, mode, values):
    """`values` is the parsed parameter file of a mode."""
    if not isinstance(values, dict):
        return ["not a mapping"]
    defaults = parameter_values(nb)
    problems = [f"{name!r} is not a parameter of the notebook" for name in values if name not in defaults]
    if values.get("mode") != mode:
        problems.append(f"mode {values.get('mode')!r} in the file for {mode!r}")
    for name in values.keys() & defaults.keys() - REDUCIBLE:
        # A parameter file has no tuples.
        if values[name] != (list(defaults[name]) if isinstance(defaults[name], tuple) else defaults[name]):
            problems.append(
                f"{name!r} is {values[name]!r}, {defaults[name]!r} in the notebook, and is not a size"
            )
    return problems


def check_unique(notebooks):
    """`notebooks` maps name to notebook; no function and no figure name may occur in two of them."""
    problems = []
    for what, names_of in (
        ("function", lambda cell: [function.name for function in functions(cell)]),
        ("figure", lambda cell: [name for name in figure_metadata(cell)[1:2] if name]),
    ):
        places = {}
        for nb_name, nb in notebooks.items():
            for _, cell in code_cells(nb):
                for name in names_of(cell):
                    places.setdefault(name, set()).add(nb_name)
        problems += [
            f"{what} {name!r} is in {sorted(found)}" for name, found in places.items() if len(found) > 1
        ]
    return problems


def check_file_size(path):
    size = path.stat().st_size
    return [] if size < MAX_BYTES else [f"{size} bytes, less than {MAX_BYTES} expected"]


# The chapters keep the rules.


class TestBook:
    def test_there_are_chapters(self):
        assert CHAPTERS

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    @pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
    def test_rule(self, path, rule):
        assert rule(read(path)) == []

    @pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
    def test_in_contents(self, path):
        toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
        assert check_contents(path.stem, toc) == []

    @pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
    def test_chapters_of_papers_come_first(self, path):
        is_own = f"## {OWN_SECTIONS[0]}" in [
            line for cell in read(path).cells for line in cell.source.splitlines()
        ]
        assert is_own == (int(path.stem[:2]) > 5)

    @pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
    def test_file_size(self, path):
        assert check_file_size(path) == []

    @pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
    def test_runner_reads_the_same_parameters(self, path):
        assert chapters.parameters(path) == parameter_values(read(path))

    @pytest.mark.parametrize("file", PARAMETER_FILES, ids=lambda file: file.name)
    def test_parameter_file(self, file):
        chapter, mode, suffix = file.name.split(".")
        assert mode in chapters.MODES
        assert mode != "reduced", "the notebook holds the reduced values"
        assert suffix == "yml"
        path = chapters.find(chapter)
        assert path.stem == chapter
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert check_parameter_file(read(path), mode, values) == []
        # The runner takes them: names and types.
        assert chapters.choose_parameters(path, mode=mode)["mode"] == mode

    def test_names_are_unique(self):
        assert check_unique({path.stem: read(path) for path in CHAPTERS}) == []


# The rules can fail.

PARAMETERS = """\
mode = "reduced"  # reduced, workstation or full
epochs = 2  # passes over the data; paper: 50 (section 3)
image_size = (64, 64)  # rows, columns in pixels; paper: 128
threshold = 0.5  # probability; paper: 0.5 (section 3)
output_dir = "runs"  # folder of the results
"""


def good_notebook():
    """Return a small notebook that keeps every rule."""
    figure = {"figure": {"caption": "Cells.", "name": "fig-a"}, "image": {"alt": "Two cells touch."}}
    cells = [new_markdown_cell("# A paper, redone\n\n" + "word " * 100)]
    cells += [new_markdown_cell(f"## {name}\n\n```python\n## no heading\n```") for name in SECTIONS]
    cells += [
        new_code_cell(
            "%matplotlib inline\nimport numpy as np\nplt.rcParams.update({})\nplots.use_book_style()"
        ),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell("def double(n):\n    return 2 * n / 1"),
        new_code_cell("plots.show_cells([])", metadata={"mystnb": figure}),
        new_code_cell(
            "print(1)",
            metadata={"tags": ["nbval-check-output"]},
            outputs=[new_output("stream", text="1\n")],
            execution_count=1,
        ),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


IMPORTS, PARAMETERS_CELL, FUNCTION, FIGURE, CHECKED = range(-5, 0)


def edit(cell, **changes):
    """Return a change of a notebook: set fields of one of its cells."""

    def change(nb):
        nb.cells[cell].update(copy.deepcopy(changes))

    return change


def add(source, place=None, **keywords):
    """Return a change of a notebook: put in a code cell, at the end by default."""

    def change(nb):
        cell = new_code_cell(source, **copy.deepcopy(keywords))
        nb.cells.insert(len(nb.cells) if place is None else place, cell)

    return change


def edit_figure(**changes):
    def change(nb):
        mystnb = nb.cells[FIGURE].metadata.mystnb
        mystnb.figure.update({key: value for key, value in changes.items() if key != "alt"})
        mystnb.image.update({key: value for key, value in changes.items() if key == "alt"})

    return change


def edit_notebook(**changes):
    return lambda nb: nb.update(changes)


def edit_parameters(old, new):
    def change(nb):
        source = nb.cells[PARAMETERS_CELL].source
        assert source.count(old) == 1
        nb.cells[PARAMETERS_CELL].source = source.replace(old, new)

    return change


def lines(n):
    return "\n".join(["n = 1"] * n)


def long_function(n):
    return "def long():\n" + "\n".join(["    n = 1"] * (n - 1))


TAGGED = {"metadata": {"tags": ["parameters"]}}
ERROR = new_output("error", ename="ValueError", evalue="x", traceback=[])

BROKEN = [
    (check_format, edit_notebook(nbformat_minor=4), "format 4.4"),
    (
        check_format,
        lambda nb: [cell.update(id="same") for cell in nb.cells[:2]],
        "2 cells",
    ),
    (check_format, lambda nb: nb.cells[0].pop("id"), "1 cells with the id None"),
    (check_format, lambda nb: nb.metadata.pop("kernelspec"), "kernel None"),
    (check_format, lambda nb: nb.cells[0].pop("source"), "not valid: 'source' is a required property"),
    (check_code_parses, add("a b"), "cell 17: invalid syntax"),
    (check_parameters, edit(PARAMETERS_CELL, metadata={}), "^0 code cells"),
    (check_parameters, add("n = 1  # n", **TAGGED), "^2 code cells"),
    (check_parameters, lambda nb: nb.cells[0].metadata.update(tags=["parameters"]), "^1 code cells"),
    (check_parameters, lambda nb: [add("n", 1)(nb) for _ in range(3)], "code cell 5, at most 4"),
    (
        check_parameters,
        edit_parameters("= 2 ", "= int(2) "),
        "expected `name = literal`, found `epochs = int",
    ),
    (
        check_parameters,
        edit_parameters("epochs = 2 ", "import os "),
        "expected `name = literal`, found `import os`",
    ),
    (
        check_parameters,
        edit_parameters("epochs = 2 ", "a = b = 2 "),
        "expected `name = literal`, found `a = b",
    ),
    (check_parameters, edit_parameters("epochs = 2 ", "a[0] = 2 "), "expected `name = literal`, found `a.0."),
    (
        check_parameters,
        edit_parameters("  # rows, columns in pixels; paper: 128", ""),
        "no comment behind `image_size",
    ),
    (
        check_parameters,
        edit_parameters("= 2 ", '= "a = b" '),
        "two `=`",
    ),
    (
        check_parameters,
        edit_parameters("= 2  # passes over the data; paper: 50 (section 3)", '= "#"'),
        "no comment",
    ),
    (check_parameters, edit_parameters("mode = ", "node = "), "no parameter 'mode'"),
    (check_parameters, edit_parameters("output_dir", "out"), "no parameter 'output_dir'"),
    (check_parameters, edit_parameters('"reduced"', '"full"'), "values of mode 'full'"),
    (check_lengths, add(lines(41)), "cell 17: 41 lines"),
    (check_lengths, lambda nb: [add(lines(40))(nb) for _ in range(13)], r"^\d+ lines of code"),
    (check_functions, add(long_function(16)), "`long` has 16 lines"),
    (check_functions, add("\n".join(f"def f{n}(): pass" for n in range(3))), "4 functions"),
    (
        check_functions,
        add("class A:\n    def a(self): pass\n    def b(self): pass\n    async def c(self): pass"),
        "4 func",
    ),
    (check_magics, add("n = 1\n  !ls"), "cell 17: `  !ls`"),
    (check_magics, add("%%time\nn = 1"), "%%time"),
    (check_magics, add("%load_ext x"), "%load_ext"),
    *((check_forbidden, add(f"n = '{text}'"), re.escape(f"cell 17: {text}; ")) for text in FORBIDDEN),
    (check_forbidden, add("open('/srv/data/x.png')"), "absolute path /srv/data"),
    (check_forbidden, add("open('~/x.png')"), "absolute path ~/x.png"),
    (
        check_forbidden,
        edit(CHECKED, outputs=[new_output("stream", text="in /srv/data/x")]),
        "absolute path /srv/data",
    ),
    (
        check_forbidden,
        edit(
            CHECKED,
            outputs=[new_output("execute_result", {"text/plain": "Path('/srv/x')"}, execution_count=1)],
        ),
        "absolute path /srv/x",
    ),
    (check_figures, edit_figure(caption=" "), "cell 15: the figure has no caption"),
    (check_figures, edit_figure(name=None), "no name"),
    (check_figures, edit_figure(alt=""), "no alt text"),
    (check_figures, edit_figure(alt="Image of two cells"), "alt text says what kind"),
    (check_figures, edit_figure(alt="A figure of two cells"), "alt text says what kind"),
    (check_figures, edit(FIGURE, metadata={}), "no caption"),
    (check_figures, add("fig, axes = plt.subplots(2)"), "cell 17: the figure has no caption"),
    (check_figures, add("n = 1", metadata={"tags": ["figure"]}), "cell 17: the figure has no name"),
    (check_figures, lambda nb: nb.cells.append(copy.deepcopy(nb.cells[FIGURE])), "2 figures named 'fig-a'"),
    (check_sections, edit(0, source="No title"), "cell 1 does not start"),
    (check_sections, lambda nb: nb.cells.insert(0, new_code_cell("# no title")), "cell 1 does not start"),
    (check_sections, lambda nb: nb.cells.pop(3), "expected"),
    (check_sections, lambda nb: nb.cells.insert(1, nb.cells.pop(2)), "expected"),
    (check_sections, lambda nb: nb.cells.append(new_markdown_cell("## More")), "'More'"),
    (check_outputs, edit(CHECKED, metadata={}), "cell 16: a stored output or count without"),
    (check_outputs, edit(CHECKED, outputs=[]), "without a stored output"),
    (check_outputs, edit(CHECKED, execution_count=None), "without a stored output and count"),
    (check_outputs, edit(FUNCTION, execution_count=1), "cell 14: a stored output or count without"),
    (check_outputs, edit(CHECKED, outputs=[ERROR]), "cell 16: a stored error"),
    (check_prose, add(lines(100)), r"lines of code, expected 2 a line"),
]


class TestRules:
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    def test_good_notebook(self, rule):
        assert rule(good_notebook()) == []

    def test_read(self, tmp_path):
        # On the disk a source is a list of lines, and an id that is missing stays so.
        nb = good_notebook()
        nbformat.write(nb, tmp_path / "a.ipynb")
        assert read(tmp_path / "a.ipynb") == nb
        text = (tmp_path / "a.ipynb").read_text().replace(f'"id": "{nb.cells[0].id}",', "", 1)
        (tmp_path / "a.ipynb").write_text(text)
        assert check_format(read(tmp_path / "a.ipynb")) == ["1 cells with the id None"]

    @pytest.mark.parametrize(("rule", "change", "match"), BROKEN)
    def test_broken_notebook(self, rule, change, match):
        nb = good_notebook()
        change(nb)
        problems = rule(nb)
        assert any(re.search(match, problem) for problem in problems), problems

    def test_every_rule_is_broken_once(self):
        assert {rule for rule, _, _ in BROKEN} == set(RULES)

    def test_limits_themselves_are_allowed(self):
        nb = good_notebook()
        for source in (lines(40), long_function(15), "def third(): pass"):
            add(source)(nb)
        assert check_lengths(nb) == []
        assert check_functions(nb) == []

    def test_sections_of_the_books_own_chapters(self):
        nb = good_notebook()
        texts = [cell for cell in nb.cells if cell.cell_type == "markdown"]
        for cell, name in zip(texts[1:], OWN_SECTIONS, strict=False):
            cell.source = f"## {name}"
        for cell in texts[1 + len(OWN_SECTIONS) :]:
            nb.cells.remove(cell)
        assert check_sections(nb) == []
        nb.cells.pop(3)
        assert check_sections(nb)

    def test_contents(self):
        toc = {"root": "a", "parts": [{"chapters": [{"file": "notebooks/05_a"}]}]}
        assert check_contents("05_a", toc) == []
        assert check_contents("05", toc) == ["notebooks/05 is not in _toc.yml"]

    def test_file_size(self, tmp_path):
        path = tmp_path / "a.ipynb"
        path.write_bytes(b" " * 999_999)
        assert check_file_size(path) == []
        path.write_bytes(b" " * 1_000_000)
        assert check_file_size(path) == ["1000000 bytes, less than 1000000 expected"]

    @pytest.mark.parametrize(
        ("text", "problems"),
        [
            ("{mode: full, epochs: 50, image_size: [128, 128]}", []),
            ("{mode: full, threshold: 0.5}", []),
            ("{mode: full, threshold: 0.4}", ["'threshold' is 0.4, 0.5 in the notebook, and is not a size"]),
            ("{mode: full, epoch: 50}", ["'epoch' is not a parameter of the notebook"]),
            ("{mode: workstation}", ["mode 'workstation' in the file for 'full'"]),
            ("{epochs: 3}", ["mode None in the file for 'full'"]),
            (
                "{mode: full, output_dir: x}",
                ["'output_dir' is 'x', 'runs' in the notebook, and is not a size"],
            ),
            ("[1]", ["not a mapping"]),
        ],
    )
    def test_parameter_file(self, text, problems):
        assert check_parameter_file(good_notebook(), "full", yaml.safe_load(text)) == problems

    def test_unique(self):
        first, second = good_notebook(), good_notebook()
        assert check_unique({"05_a": first, "06_b": second}) == [
            "function 'double' is in ['05_a', '06_b']",
            "figure 'fig-a' is in ['05_a', '06_b']",
        ]
        edit(FUNCTION, source="def other(): pass")(second)
        edit_figure(name="fig-b")(second)
        assert check_unique({"05_a": first, "06_b": second}) == []
