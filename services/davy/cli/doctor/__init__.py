"""``davy doctor``: what is in the way of running Davy, here and on a cluster.

Belongs here: facts, what follows from them, how it is printed. Not here: mending anything.
"""
