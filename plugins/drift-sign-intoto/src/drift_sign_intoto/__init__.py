"""Makes and judges in-toto attestations."""
