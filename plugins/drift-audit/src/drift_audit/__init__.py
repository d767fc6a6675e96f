"""Keeps an audit trail of a Drift registry that shows what was removed or changed."""
