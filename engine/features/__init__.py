"""Features that were computed elsewhere: found by name, matched with the samples of a dataset, written beside them."""
