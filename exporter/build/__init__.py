"""The making half of a run: from a pipeline to its files, and what they are made of."""
