"""Results on disk, example by example, and what follows from them: summaries and verdicts."""
