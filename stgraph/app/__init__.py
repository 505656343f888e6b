"""What the command line runs: configuration, pipeline, comparison, batches, streams, questions, output folders."""
