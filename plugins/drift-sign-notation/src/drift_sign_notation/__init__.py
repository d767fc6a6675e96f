"""Signs manifests in the format of the Notary Project (notation), and judges such signatures."""
