"""Callbacks of a stage; none of them knows another."""
