"""The networks of containers: conflists in the store, addresses, bridges, published ports, names.

CNI 1.0/1.1 for the documents and the plugin's side.  Nothing here knows what a container is made of: it has an ID, a
name and a network namespace.
"""
