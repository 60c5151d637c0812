"""Attacks of other libraries, in a process of their own."""
