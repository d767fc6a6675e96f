"""Servers beside Drift that tests start for themselves, each with a folder of its own, and may stop, pause or kill."""
