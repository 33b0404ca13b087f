"""Deciding about whole runs: what stands behind the links of a chain."""
