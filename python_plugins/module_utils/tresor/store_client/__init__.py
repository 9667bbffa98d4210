"""The hosts' side of the store: pull over mTLS, verify while writing, switch atomically.

Standard library only: it travels inside Ansible modules.
"""
