"""Everything that proves what the service promises."""
