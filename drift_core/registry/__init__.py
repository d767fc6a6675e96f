"""What a registry means, without HTTP: uploads, blobs, manifests, tags, referrers, the catalogue."""
