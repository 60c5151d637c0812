"""Faster passes that change nothing but rounding."""
