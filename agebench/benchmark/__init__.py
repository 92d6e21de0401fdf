"""`bench`: latency alone, by batch size, with what it costs and what the machine allows."""
