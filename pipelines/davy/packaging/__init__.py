"""The model package: the unit that is trained, signed, served, judged and watched.

Belongs here: its schema, writing, reading with verification, signing, the Bento build.
Not here: how a model is trained or chosen.
"""
