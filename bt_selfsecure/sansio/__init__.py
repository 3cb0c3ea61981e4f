"""What every protocol machine is made of: states as a table, verbs, events, a write-ahead outbox, a trace."""
