"""Rates and latencies, as ratios to what the server itself can do, measured in one run."""
