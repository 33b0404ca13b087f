"""Whole commands as functions: run, verify, check, golden, judge."""
