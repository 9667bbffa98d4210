"""What talks to the server from the bastion."""
