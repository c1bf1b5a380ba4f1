"""The search for a schedule: it grows a tree of stages within a budget, and confirms what it has found."""
