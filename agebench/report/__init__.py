"""From result files to a page, tables and what changed; knows result files, runs no model."""
