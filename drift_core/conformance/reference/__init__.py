"""Drivers that keep every rule in the simplest way, in memory; also for tests of other things."""
