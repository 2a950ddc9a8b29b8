"""A whole Kubernetes node on this machine, in a network namespace of its own.

Belongs here: what such a node needs and how it is taken away again.
Not here: KServe's stand-in, the tests.
"""
