"""The page for people in a browser: sign-in, own rights and usage, a chat box; and logouts."""
