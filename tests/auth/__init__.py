"""Authentication, authorization and audit together, as an operator puts them together."""
