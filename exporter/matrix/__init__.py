"""One verification in many environments: which of them differ, since when, and in what."""
