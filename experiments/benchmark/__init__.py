"""A benchmark of video-token compression: rendered clips, questions about them, and a small video LLM that answers."""
