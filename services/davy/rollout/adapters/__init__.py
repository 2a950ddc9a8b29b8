"""What the engine's ports are in each place: Traefik, Prometheus, folders, memory.

Belongs here: one adapter a file. Not here: anything that decides.
"""
