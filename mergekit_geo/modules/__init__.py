"""A blend in a running module; BatchNorm statistics; modules saved again."""
