"""Watches the kernel log for XID errors and does what NVIDIA asks for, up to a daily cap."""
