"""Drivers that each break one rule, by which the suites are tested: ``MUTANTS`` of each module, by rule."""
