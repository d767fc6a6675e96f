"""Signs and verifies images in the formats of cosign."""
