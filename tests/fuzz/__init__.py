"""Mutated inputs for every reader: what ``scripts/fuzz_readers.py`` and the tests share."""
