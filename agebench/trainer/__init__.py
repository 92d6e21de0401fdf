"""From settings to a trained network: pictures, the folder of a run, and what it starts from."""
