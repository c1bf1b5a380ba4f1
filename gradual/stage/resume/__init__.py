"""What an interrupted stage needs to resume exactly where it stopped."""
