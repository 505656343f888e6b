"""stgraph inside inference servers: which video tokens of a request stay.

A server asks two questions. When it makes the prompt: how many tokens of a video stay? When it has the features: which
ones? ``contract`` answers both for any selector that needs only the features and merges nothing.
"""
