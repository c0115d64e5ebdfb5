"""A turn's calls as a graph inside a framework that starts each of them by itself.

None of these frameworks hands an extension the batch: a hook sees the model's reply, and each call
comes by itself, in a task of the framework's, if it comes at all. `rendezvous` decides what that
means for the graph, `turn` runs it, `crew` holds the settings that a user gives, `conversation`
reads references, `answers` writes what the model is told, `budget` counts the time. The adapters
stand on these.
Imports dagexec only, and no framework. Read `rendezvous` first.
"""
