"""What this library costs above the loop that it cannot do without: `python -m benchmarks`."""
