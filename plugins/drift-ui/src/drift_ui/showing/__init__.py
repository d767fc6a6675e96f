"""The pages that the console has by itself."""
