"""The bastion's package repositories: what was imported, signed with the bastion's own key."""
