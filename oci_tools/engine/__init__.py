"""Many containers over time: the supervisor of `ocid`, its warm forker, the history of events, the HTTP API.

Second wall of the house: nothing here imports a library of containers, images, networks or volumes.  What
is to be done with them is asked of the commands, by words, descriptors and an exit code (`forker.py`); what
there is to know of them is read in files (container/place.py).
"""
