"""Measures the gateway beside plain NGINX: own engine, own clients, real sockets, loopback only."""
