"""Coverage-guided fuzzing of every parser of external input: from clients, providers and operators."""
