"""An attack at work: what it declares and may call, the judge that verifies its candidates, and the catalog."""

from robench.search.declaration import Needs, Task, sees
from robench.search.search import Search

__all__ = ["Needs", "Search", "Task", "sees"]
