"""What the command line runs: one module a command, each imported only when it is asked for."""
