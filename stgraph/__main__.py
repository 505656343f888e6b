"""``python -m stgraph``: the command line."""

from .app.cli import main

main()
