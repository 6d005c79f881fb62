"""One round: draft, choose lengths, verify, accept."""
