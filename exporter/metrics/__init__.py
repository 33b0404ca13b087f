"""Differences as people judge them: of text, sound and speakers. What they mean is not decided."""
