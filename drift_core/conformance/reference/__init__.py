"""One driver a family that keeps every rule, in as few lines as it takes; mutants differ from it."""
