"""An image at rest: an OCI image layout on disk, and the documents in it."""
