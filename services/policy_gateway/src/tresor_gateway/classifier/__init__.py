"""Texts judged by a model of the site: the question, the verdict, who waits for it."""
