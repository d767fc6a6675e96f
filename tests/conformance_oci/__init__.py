"""Runs the conformance suite of the OCI distribution specification against a running registry."""
