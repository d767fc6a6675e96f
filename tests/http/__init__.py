"""What is around every request: who asks, from where, and how often."""
