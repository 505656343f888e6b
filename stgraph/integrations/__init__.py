"""stgraph inside other people's frameworks."""
