"""Run the command line with ``python -m bloodcells``."""

from bloodcells.cli import main

if __name__ == "__main__":
    main()
