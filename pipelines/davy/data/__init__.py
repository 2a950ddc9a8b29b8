"""From a task file and its tables to clean, pseudonymised rows.

Belongs here: the task's schema, sources, quality checks, cleaning, pseudonyms, splits by time.
Not here: features, or anything that depends on which model will be trained.
"""
