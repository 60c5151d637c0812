"""Defenses, their recipes, and the loop that trains."""
