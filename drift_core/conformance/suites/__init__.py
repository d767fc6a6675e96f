"""The suites, one module for each family of drivers."""
