"""What lets an interrupted stage go on where it was."""
