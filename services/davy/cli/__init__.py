"""The commands ``davy`` and ``kubectl davy``.

Belongs here: arguments, what is printed, exit codes. Not here: the work itself.
"""
