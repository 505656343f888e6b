"""Studies: each asks one question of a whole video LLM, and answers it with a table, a figure and two paragraphs.

``python -m experiments.studies NAME`` measures what is missing and writes the answer; ``--saved`` only writes.
"""
