"""What is measured for figures: one file a kind, with a function `measure` that gives JSON-like numbers.

`USES` are further files whose code decides them, beside the evaluation's engine and what is measured;
`OF_MACHINE` says that they are times, which another device or number of threads changes.
"""
