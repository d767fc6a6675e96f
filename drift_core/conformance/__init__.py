"""The conformance kit: suites that a plugin's author runs, reference drivers, mutants, and a fault proxy.

Needs the extra ``drift-core[conformance]``. Nothing is imported before it is asked for.
"""
