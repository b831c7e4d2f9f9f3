"""The real service, held against what its OpenAPI document says."""
