"""An attack at work: what it may call, the judge that verifies its candidates, and the catalog of attacks."""

from robench.search.search import Search

__all__ = ["Search"]
