"""What lies on disk: tars, indexes, manifests, ledgers and banks. Knows neither Ray, DALI nor torch."""
