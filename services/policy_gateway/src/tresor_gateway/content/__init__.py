"""Prompts and answers, kept apart from the audit log and encrypted for each subject and day."""
