"""Files and units of a host, many in one module run.

A run of Ansible's own copy, file and systemd modules costs a third of a second each on a busy host;
a role has dozens of files. Handling them together is what keeps a second converge short.
"""
