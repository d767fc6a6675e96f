"""What the runner lets pytest collect: the one suite that it was asked to run."""

from drift_core.conformance.runner import RUNNING

TestDriver = RUNNING[-1]
