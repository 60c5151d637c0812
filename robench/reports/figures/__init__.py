"""How figures are drawn: one file a kind, with a function `draw` that gives a `Drawing`; none imports torch."""
