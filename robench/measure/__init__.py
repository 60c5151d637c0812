"""What is measured for figures: one file a kind, with a function `measure` that gives JSON-like numbers."""
