"""What YAML files say: benchmarks, queues; no torch."""
