"""Traces of a registry by OpenTelemetry."""
