"""Drives the machine with anyio."""
