"""The story that `bt-selfsecure demo` tells, and how it is shown."""
