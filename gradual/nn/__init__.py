"""Encoders and layers."""
