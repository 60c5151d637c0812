"""Many models in a run: benchmarks, queues, and what else is measured."""
