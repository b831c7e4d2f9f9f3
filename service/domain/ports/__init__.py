"""What use cases need from outside, as small Protocols that adapters implement."""
