"""Planted bugs."""

BUGS = {}
