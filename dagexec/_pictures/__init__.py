"""Draws plain values."""
