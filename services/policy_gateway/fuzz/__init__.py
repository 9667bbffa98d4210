"""The gateway under hostile use: what takes longer than the unit tests may."""
