"""What every room may use: files, arrays, child processes, limits, progress; nothing of faces."""
