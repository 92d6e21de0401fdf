"""`bench`: latency by batch size, with memory, operations and the machine's limits."""
