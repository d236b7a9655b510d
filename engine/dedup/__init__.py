"""Near duplicates among millions of videos."""
