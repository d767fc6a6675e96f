"""Decides who may do what in a Drift registry: organizations, teams, roles."""
