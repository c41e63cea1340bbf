# What doesn't fit one machine: the full grid (chapters x arms x seeds), and counting a folder of slides. Run it with a
# profile, from the root of the checkout; book/scale.md has the whole story:
#   snakemake --profile workflow/profiles/slurm --config mode=full -- grid
#   snakemake --profile workflow/profiles/slurm --config slides=/data/slides -- slides
import functools
import shlex

# Outputs are but marks: what is run and counted lies beside them, in folders that outlive a job that failed, and
# that Snakemake doesn't carry around where it knows no shared file system.
SETTINGS = {
    "mode": "full",
    "chapters": None,  # all that have the mode
    "runs": "runs/grid",  # folder for the trainings
    "record": "book/results",  # what is in it is not run
    "slides": None,  # folder of images
    "counts": "runs/slides",  # folder for what is counted
    "chunk": 50,  # images a job
    "count_options": "",  # more words for `bloodcells count`
    "bloodcells": None,  # the command line itself, for tests
}
if unknown := set(config) - set(SETTINGS):
    raise WorkflowError(f"Unknown setting {', '.join(sorted(unknown))}; expected some of {', '.join(SETTINGS)}.")
GRID = SETTINGS | config
MODE = GRID["mode"]


@functools.cache
def grid_chapters():
    from grid import choose_chapters

    return choose_chapters(ROOT, MODE, GRID["chapters"])


@functools.cache
def grid_parts(chapter):
    """All parts of a chapter by name; of those that the record lacks only what is missing of them."""
    from grid import all_parts, missing_parts

    notebook = CHAPTERS[chapter]
    missing = missing_parts(notebook, MODE, ROOT / GRID["record"])
    return {part.name: part for part in all_parts(notebook, MODE) + missing}, [part.name for part in missing]


def grid_part(wildcards):
    return grid_parts(wildcards.chapter)[0][wildcards.part]


def grid_outputs(wildcards):
    return [
        f"{GRID['runs']}/{chapter}/{MODE}/{name}.done" for chapter in grid_chapters() for name in grid_parts(chapter)[1]
    ]


@functools.cache
def grid_digest(chapter):
    from grid import digest_inputs

    return digest_inputs(CHAPTERS[chapter], ROOT)


@functools.cache
def slide_chunks():
    from slides import divide

    if not GRID["slides"]:
        raise WorkflowError("Name the folder of slides: --config slides=FOLDER.")
    return divide(GRID["slides"], int(GRID["chunk"]))


def slide_digest(wildcards):
    from slides import digest_images

    return digest_images(slide_chunks()[wildcards.chunk])


localrules:
    grid,
    slides,


# The way a chapter is executed for the book, with other words.
use rule execute_chapter as train_part with:
    input:
        [],
    output:
        touch(f"{GRID['runs']}/{{chapter}}/{MODE}/{{part}}.done"),
    params:
        # A folder of its own, so that no two jobs want one lock. It stays when a job fails: the next attempt goes on
        # from the last epoch.
        how=lambda wildcards: (
            f"--mode {MODE} --out "
            + shlex.quote(f"{GRID['runs']}/{wildcards.chapter}/{MODE}/{wildcards.part}")
            + f" {grid_part(wildcards).options()}"
        ),
        content=lambda wildcards: grid_digest(wildcards.chapter),
    threads: 4
    resources:
        gpu=lambda wildcards: 1 if grid_part(wildcards).arms else 0,
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=720,
    message:
        "Training {wildcards.part} of {wildcards.chapter}"


rule grid:
    input:
        grid_outputs,
    output:
        touch(f"{GRID['runs']}/{MODE}.done"),
    message:
        "Gathering the runs"
    shell:
        "{PYTHON:q} workflow/grid.py {GRID[runs]:q} {GRID[runs]:q}/{MODE:q}.csv"


rule count_chunk:
    output:
        touch(f"{GRID['counts']}/{{chunk}}.done"),
    params:
        images=lambda wildcards: slide_chunks()[wildcards.chunk],
        folder=f"{GRID['counts']}/{{chunk}}",
        state=slide_digest,
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
        attempt=lambda wildcards, attempt: attempt,
    message:
        "Counting chunk {wildcards.chunk}"
    # The first attempt counts anew: what is there may be of other images by the same names. Later ones go on with it.
    # Status 1: some image can't be counted, and no later attempt would change that; but so ends a crash, too, and where
    # the memory was too small the next attempt has more.
    shell:
        "mkdir -p {params.folder:q} && "
        "if [ {resources.attempt} -eq 1 ]; then rm -f {params.folder:q}/counts.csv; fi && "
        "{BLOODCELLS} count {params.images:q} --out {params.folder:q} --threads {threads} --resume "
        "{GRID[count_options]} 2> {params.folder:q}.txt || "
        "{{ [ $? -eq 1 ] && ! grep -Eq '^Traceback|too (large for the|little) (free memory|memory that is free)' "
        "{params.folder:q}.txt; }}"


rule slides:
    input:
        lambda wildcards: [f"{GRID['counts']}/{chunk}.done" for chunk in slide_chunks()],
    output:
        touch(f"{GRID['counts']}/joined.done"),
    message:
        "Joining the counts"
    shell:
        "{PYTHON:q} workflow/slides.py {GRID[slides]:q} {GRID[counts]:q} --chunk {GRID[chunk]}"
