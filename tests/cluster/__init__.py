"""Several nodes on one database and one bucket: what clients see of them together, and while parts of it fail."""
