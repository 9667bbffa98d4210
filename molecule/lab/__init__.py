"""The lab: real Debian hosts on one machine, in networks that have no way out."""
