"""What a registry measures, for Prometheus."""
