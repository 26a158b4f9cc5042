"""What the entries that measure errors are made of, one idea a file."""
