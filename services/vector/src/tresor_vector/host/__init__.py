"""What runs beside the server, on its host."""
