"""Drafters against plain decoding on a user's own prompts."""
