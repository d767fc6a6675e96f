"""Signs and verifies images by OpenPGP, in the format of containers/image."""
