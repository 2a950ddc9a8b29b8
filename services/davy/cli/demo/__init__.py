"""The whole loop on one machine, without Kubernetes: what `make demo` runs.

Belongs here: starting real processes, sending real traffic, checking what was promised, the
report. Not here: any decision; those are made by the parts that also run on a cluster.
"""
