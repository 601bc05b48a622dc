"""Studies on disk: the journal, the weights that are kept, and reading a study back."""
