"""A model under attack: what is evaluated, by which plan, in which processes, and what the answers mean."""
