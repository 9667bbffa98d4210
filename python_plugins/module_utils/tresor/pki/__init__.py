"""The site's own public key infrastructure: requests on hosts, the authority on the bastion."""
