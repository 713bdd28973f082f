"""Links between roles: within one process, or over TCP with mutual TLS."""
