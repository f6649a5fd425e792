"""Log-ins that last: refresh tokens, log-out and revocation."""
