"""Reference drivers with one mistake each: they show that every rule can fail, and for its own reason."""
