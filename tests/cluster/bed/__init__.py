"""A real kube-apiserver on loopback for tests, and stand-ins for what a whole cluster would add."""
