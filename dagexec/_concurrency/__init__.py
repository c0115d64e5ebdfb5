"""Loops, threads, slots."""
