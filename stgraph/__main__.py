"""``python -m stgraph``: the command line."""

from .cli import main

main()
