"""The demonstration's tools and the replies of models that it answers.

Imports dagexec's public names. Read `_tools`; the replies are JSON as the APIs send it.
"""
