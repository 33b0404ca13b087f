"""What a run has made, kept by content for the next one: entries, locks, bounds."""
