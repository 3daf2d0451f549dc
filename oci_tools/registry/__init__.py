"""An image in flight: the registry protocol, client and server."""
