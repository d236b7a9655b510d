"""What a bank holds, counted and drawn."""
