"""The instruments: latency of each stage, ratios, fresh processes, and the machine's own limits."""
