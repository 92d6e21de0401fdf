"""Pages, tables and changes between results, all made from result files; no model is run."""
