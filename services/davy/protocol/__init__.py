"""What goes over the wire, for both of its ends: the Open Inference Protocol and payload events.

Belongs here: codecs that turn bytes into tensors and back. Not here: servers and clients.
"""
