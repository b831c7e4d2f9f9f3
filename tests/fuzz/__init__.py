"""Coverage-guided fuzzing of everything that reads what strangers, upstreams and operators write."""
