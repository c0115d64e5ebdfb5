"""Engines: other drivers of the same scheduler, for runs that outlive a process and a machine."""
