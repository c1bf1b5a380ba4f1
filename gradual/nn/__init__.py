"""Encoders, packing and layers."""
