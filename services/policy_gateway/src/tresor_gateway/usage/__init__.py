"""How much somebody may use, and how much of it is used up on this host."""
