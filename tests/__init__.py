"""Sentences about what geofetch does, on real parts: a scripted origin, real files, real databases."""
