"""Makes what a Drift registry stores smaller, beside the original and never in its place."""
