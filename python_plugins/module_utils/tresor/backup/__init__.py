"""Backup of what a site cannot lose, and its restore onto a fresh bastion."""
