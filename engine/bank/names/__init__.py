"""Action names as people write them → canonical names."""
