"""Take one divergent layer apart: isolate it, say what differs, hand over a bundle."""
