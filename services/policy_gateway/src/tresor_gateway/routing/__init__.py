"""Which model, and which replica of it, answers a request."""
