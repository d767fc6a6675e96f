"""HTTP for Drift, by Granian."""
