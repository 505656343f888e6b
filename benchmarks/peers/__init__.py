"""Every number of docs/peers.md: ``python -m benchmarks.peers``.

``facts.py`` says what was published and how ours departs, ``measure.py`` measures, ``page.py`` writes the tables.
Each figure is kept in ``outcomes.json`` as soon as it is known, so that a run that ends early continues from there.
"""
