"""oci-tools: Docker's whole job as small commands on OCI layouts and bundles."""

__version__ = "0.1.0"
