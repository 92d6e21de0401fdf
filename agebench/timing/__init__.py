"""Measuring times: latency by stage, ratios, separate processes, and the machine's limits."""
