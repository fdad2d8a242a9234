"""The registry: the records of ``model/`` in a database, with who changed what, when and why.

Django's app of that name. ``store`` writes and reads whole records; nothing else writes clinical
rows. Rules of selection and of the way through treatment are elsewhere: a row has no opinion.
"""
