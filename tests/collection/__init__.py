"""What collects garbage, in the whole product."""
