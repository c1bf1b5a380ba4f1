"""The ``gradual`` command."""
